// Quantising a network in a worker.
import { type ErrorCode, InternalError, LoadError, withCode } from "./errors.js";
import type { LayerReport } from "./network.js";
import { type Picture, type Pixels, pixels } from "./picture.js";
import { type ModuleSource, compile } from "./compile.js";
import { read } from "./source.js";

/** How a picture becomes a network's input: `(pixel / 255 - mean) / std` per channel. */
export interface Preprocessing {
  /** The input's `[height, width]`. */
  size: readonly [number, number];
  /**
   * What to do with a picture of another shape: `stretch` it; cut its centre, of which this share of the shorter side
   * remains; or fit all of it in, in the middle or at the top left, and fill the rest with this level, 0 to 1.
   */
  fit: "stretch" | { crop: number } | { pad: number } | { padBottomRight: number };
  /** One per channel. */
  mean: readonly number[];
  /** One per channel. */
  std: readonly number[];
  /** By default `rgb`. */
  channels?: "rgb" | "bgr" | "grey";
  /** Whether channels are the input's last axis; by default its second. */
  channelsLast?: boolean;
}

/** How a network is quantised. */
export interface QuantizeOptions {
  /** 2 to 8; by default 4. */
  bits?: number;
  /** Input channels that share a scale; by default 32. */
  blockSize?: number;
  /** How scales are found; by default `min-mse`. */
  method?: "signed-extreme" | "abs-max" | "min-mse";
  /** Names of layers that stay floats, with `*` and `?`. */
  keepFloat?: readonly string[];
  /** Pictures to fit the network on, no labels needed: 16 do. It takes seconds for each. */
  calibration?: readonly Picture[];
  /** What is fitted on pictures: by default, `gptq`, the integers and a scale and a shift per channel; else the latter. */
  fit?: "gptq" | "moments";
  /** Views that are made of each picture, 1 to 255: as it is run, whole, and parts of it at random. By default 3. */
  views?: number;
  /** Gives each layer 2 to 8 bits, by its error on the pictures, so that a weight has at most so many in the mean. */
  meanBits?: number;
  /** Names of the classes, to keep in the model file. */
  labels?: readonly string[];
  /** How pictures become the input, to keep in the model file; by default what is usual for ImageNet. */
  preprocessing?: Preprocessing;
  /** Hears of each layer when its turn comes: how many are done, of how many, and its name. Calibration counts anew. */
  onProgress?: (done: number, total: number, layer: string) => void;
  /** Ends the worker; then {@link quantize} rejects with the signal's reason, as `fetch` does. */
  signal?: AbortSignal;
  /**
   * Makes the worker, of this package's `dsconv/worker.js`; by default of the same text in a blob, which a content
   * security policy may forbid.
   */
  worker?: () => Worker;
  /** As that of {@link Device.open}. */
  module?: ModuleSource;
}

/** A quantised network. */
export interface Quantized {
  /** A model file: for {@link Network.load}, to keep, and for the command `dsconv`. */
  readonly model: Uint8Array<ArrayBuffer>;
  readonly layers: readonly LayerReport[];
}

/** @internal To the worker. */
export interface Request {
  onnx: Uint8Array;
  /** `spec::QuantizeSpec` in JSON. */
  spec: string;
  pictures: Pixels[];
  module: WebAssembly.Module;
}

/** @internal From the worker. */
export type Answer =
  | { progress: [done: number, total: number, layer: string] }
  | { model: Uint8Array<ArrayBuffer>; layers: string }
  | { code: ErrorCode | undefined; message: string };

/**
 * Quantises an ONNX file, or a model file with float weights, in a worker: the page stays live.
 *
 * @throws {InvalidInputError} for what is no model or wrong options; {@link UnsupportedError} names all nodes that this
 *   library does not take.
 */
export async function quantize(
  onnx: ArrayBuffer | Uint8Array | Blob,
  options: QuantizeOptions = {},
): Promise<Quantized> {
  const { calibration = [], onProgress, signal, worker: make, module, ...spec } = options;
  const request: Request = {
    onnx: await read(onnx, undefined, signal),
    spec: JSON.stringify(spec),
    pictures: await Promise.all(calibration.map(pixels)),
    module: await compile(module),
  };
  const worker = make?.() ?? (await blobWorker());
  let stop = (): void => {};
  try {
    signal?.throwIfAborted();
    return await new Promise<Quantized>((resolve, reject) => {
      stop = () => reject(signal?.reason);
      signal?.addEventListener("abort", stop);
      // Of a script that could not be loaded, browsers say nothing.
      worker.onerror = ({ message }) =>
        reject(message ? new InternalError("internal", `the worker failed: ${message}`) : unloaded());
      worker.onmessageerror = () =>
        reject(new InternalError("internal", "the worker failed: its answer could not be read"));
      worker.onmessage = ({ data }: MessageEvent<Answer>) => {
        if ("progress" in data) {
          try {
            onProgress?.(...data.progress);
          } catch (error) {
            reject(error);
          }
        } else if ("model" in data) resolve({ model: data.model, layers: JSON.parse(data.layers) as LayerReport[] });
        else reject(withCode(data.code ?? "internal", data.message));
      };
      worker.postMessage(request);
    });
  } finally {
    signal?.removeEventListener("abort", stop);
    worker.terminate();
  }
}

function unloaded(cause?: unknown): LoadError {
  const what = `quantize's worker could not be loaded${cause === undefined ? "" : `: ${String(cause)}`}`;
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
