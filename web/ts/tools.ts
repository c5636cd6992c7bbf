// The worker with the second module: ONNX, quantisation, and networks on the processor.
import { DeviceLostError, type DsconvError, InternalError, LoadError, withCode } from "./errors.js";
import { type ModuleSource, compileTools } from "./compile.js";
import type { Answer, Call, Calls, Message } from "./worker.js";

/** Where the worker and its module are: what ONNX, {@link quantize} and networks on the processor need. */
export interface ToolsOptions {
  /**
   * Makes the worker, of this package's `dsconv/worker.js`; by default of the same text in a blob, which a content
   * security policy may forbid.
   */
  worker?: (() => Worker) | undefined;
  /**
   * Where the worker's WebAssembly module is, the package's `dsconv/tools.wasm`, or its bytes, or what was compiled of
   * them; by default beside this file. The first call decides: the module is loaded once.
   */
  tools?: ModuleSource | undefined;
}

/** Hears of the work on layers: how many are done, of how many, and the layer's name. */
export type LayerProgress = (done: number, total: number, layer: string) => void;

interface Waiting {
  resolve: (value: never) => void;
  reject: (reason: unknown) => void;
  onProgress: LayerProgress | undefined;
}

/** @internal A worker that answers one call after the other. */
export class Tools {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  #calls = 0;
  #ended: { reason: unknown } | undefined;
  /** Called when the worker fails: no call of it is answered any more. */
  onFailed: (error: DsconvError) => void = () => {};

  private constructor(worker: Worker) {
    this.#worker = worker;
    // Of a script that could not be loaded, browsers say nothing.
    worker.onerror = ({ message }) => this.#fail(message ? failed(message) : unloaded());
    worker.onmessageerror = () => this.#fail(failed("its answer could not be read"));
    worker.onmessage = ({ data }: MessageEvent<Answer>) => this.#answered(data);
  }

  /** Starts a worker and its module. */
  static async start({ worker, tools }: ToolsOptions): Promise<Tools> {
    const module = await compileTools(tools);
    const started = new Tools(worker?.() ?? (await blobWorker()));
    await started.call("start", [module]);
    return started;
  }

  /** Makes one call in a worker of its own. A signal ends the worker; then this rejects with the signal's reason. */
  static async once<Name extends Call>(
    options: ToolsOptions & { signal?: AbortSignal | undefined; onProgress?: LayerProgress | undefined },
    name: Name,
    given: Parameters<Calls[Name]>,
  ): Promise<ReturnType<Calls[Name]>> {
    const { signal, onProgress } = options;
    const tools = await Tools.start(options);
    const stop = (): void => tools.end(signal?.reason);
    signal?.addEventListener("abort", stop);
    try {
      signal?.throwIfAborted();
      return await tools.call(name, given, onProgress);
    } finally {
      signal?.removeEventListener("abort", stop);
      tools.end(undefined);
    }
  }

  /** Calls one of the worker's functions. What `onProgress` throws rejects. */
  call<Name extends Call>(
    name: Name,
    given: Parameters<Calls[Name]>,
    onProgress?: LayerProgress,
  ): Promise<ReturnType<Calls[Name]>> {
    return new Promise((resolve, reject) => {
      if (this.#ended) return reject(this.#ended.reason);
      this.#calls += 1;
      this.#waiting.set(this.#calls, { resolve, reject, onProgress });
      this.#worker.postMessage({ id: this.#calls, name, given } as Message);
    });
  }

  /** Ends the worker: calls under way, and later ones, reject with the reason. */
  end(reason: unknown): void {
    if (this.#ended) return;
    this.#ended = { reason };
    this.#worker.terminate();
    for (const { reject } of this.#waiting.values()) reject(reason);
    this.#waiting.clear();
  }

  #fail(error: DsconvError): void {
    if (this.#ended) return;
    this.end(error);
    const lost = `${error.message}; open a new device, and load again`;
    this.#ended = { reason: new DeviceLostError("device-lost", lost) };
    this.onFailed(error);
  }

  #answered(answer: Answer): void {
    const waiting = this.#waiting.get(answer.id);
    if (!waiting) return;
    if ("progress" in answer) {
      try {
        waiting.onProgress?.(...answer.progress);
      } catch (error) {
        waiting.reject(error);
      }
      return;
    }
    this.#waiting.delete(answer.id);
    if ("value" in answer) return waiting.resolve(answer.value as never);
    const error = withCode(answer.code, answer.message);
    waiting.reject(error);
    // What has failed in the middle of a call is in no state to go on from.
    if (answer.code === "internal") this.#fail(error);
  }
}

const failed = (why: string): InternalError => new InternalError("internal", `the worker failed: ${why}`);

function unloaded(cause?: unknown): LoadError {
  const what = `this package's worker could not be loaded${cause === undefined ? "" : `: ${String(cause)}`}`;
  const how = "where a content security policy forbids `worker-src blob:`, pass `worker`";
  return new LoadError("load", `${what}; ${how}`, { cause });
}

/** A worker without an address: bundlers need not find it, and a page may take this package from another origin. */
async function blobWorker(): Promise<Worker> {
  try {
    const { default: text } = await import("./worker-text.js");
    address ??= URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    return new Worker(address);
  } catch (error) {
    throw unloaded(error);
  }
}

let address: string | undefined;
