// The worker: calls of the second module, one after the other.
import initModule, { CpuNetwork, convert, quantize } from "./module/dsconv_web_tools.js";
import { type ErrorCode, fromModule, isTrap, DsconvError } from "./errors.js";
import type { Pixels } from "./picture.js";
import type { Tensor } from "./tensor.js";

/** A tensor on its way to the module. */
export interface Part {
  readonly data: Float32Array;
  readonly shape: Float64Array;
}

const networks = new Map<number, CpuNetwork>();
let loaded = 0;

function network(id: number): CpuNetwork {
  const found = networks.get(id);
  if (!found) throw new Error(`there is no network ${id}`);
  return found;
}

/** Tells of the call under way. */
let tell: (done: number, total: number, layer: string) => void = () => {};

const calls = {
  /** Starts the module. */
  start: (module: WebAssembly.Module) => initModule({ module_or_path: module }).then(() => undefined),
  /** The model file of an ONNX file. */
  convert: (onnx: Uint8Array) => convert(onnx),
  /** `spec` is a `spec::QuantizeSpec` in JSON; the layers' report is JSON too. */
  quantize: (onnx: Uint8Array, spec: string, pictures: Pixels[]) => {
    const { model, layers } = quantize(onnx, spec, pictures, tell);
    return { model, layers };
  },
  /** A network on the processor: its number, and its description in JSON. */
  load: (bytes: Uint8Array) => {
    const made = new CpuNetwork(bytes);
    loaded += 1;
    networks.set(loaded, made);
    return { id: loaded, description: made.describe() };
  },
  classify: (id: number, rgba: Uint8Array, width: number, height: number, top: number) =>
    network(id).classify(rgba, width, height, top),
  run: (id: number, inputs: Part[]) => network(id).run(inputs) as Tensor[],
  profile: (id: number, rgba: Uint8Array, width: number, height: number) => network(id).profile(rgba, width, height),
  dispose: (id: number) => {
    networks.get(id)?.free();
    networks.delete(id);
  },
};

type Functions = typeof calls;
/** What the worker does: what each call takes, and what it answers. */
export type Calls = {
  [Name in keyof Functions]: (...given: Parameters<Functions[Name]>) => Awaited<ReturnType<Functions[Name]>>;
};
/** The name of a call. */
export type Call = keyof Calls;

/** To the worker. */
export interface Message<Name extends Call = Call> {
  id: number;
  name: Name;
  given: Parameters<Calls[Name]>;
}

/** From the worker, about the call of that number. */
export type Answer = { id: number } & (
  | { progress: [done: number, total: number, layer: string] }
  | { value: unknown }
  | { code: ErrorCode; message: string }
);

const answer = (answer: Answer): void => (self as unknown as Worker).postMessage(answer);

/** Calls come in their order, and each begins when the one before it is done. */
let last: Promise<void> = Promise.resolve();

async function answered({ id, name, given }: Message): Promise<void> {
  tell = (...progress) => answer({ id, progress });
  try {
    const call = calls[name] as (...given: unknown[]) => unknown;
    answer({ id, value: await call(...given) });
  } catch (thrown) {
    const error = isTrap(thrown) ? undefined : fromModule(thrown);
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    if (error instanceof DsconvError) return answer({ id, code: error.code, message });
    const failed = `the WebAssembly module failed, perhaps for want of memory: ${message}`;
    answer({ id, code: "internal", message: failed });
  }
}

self.onmessage = ({ data }: MessageEvent<Message>) => {
  last = last.then(() => answered(data));
};
