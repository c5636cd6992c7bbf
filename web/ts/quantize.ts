// Quantising a network in a worker.
import type { LayerReport } from "./network.js";
import { type Picture, pixels } from "./picture.js";
import { read } from "./source.js";
import { type LayerProgress, Tools, type ToolsOptions } from "./tools.js";

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
export interface QuantizeOptions extends ToolsOptions {
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
  onProgress?: LayerProgress;
  /** Ends the worker; then {@link quantize} rejects with the signal's reason, as `fetch` does. */
  signal?: AbortSignal;
}

/** A quantised network. */
export interface Quantized {
  /** A model file: for {@link Network.load}, to keep, and for the command `dsconv`. */
  readonly model: Uint8Array<ArrayBuffer>;
  readonly layers: readonly LayerReport[];
}

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
  const { calibration = [], onProgress, signal, worker, tools, ...spec } = options;
  const bytes = await read(onnx, undefined, signal);
  const pictures = await Promise.all(calibration.map(pixels));
  const { model, layers } = await Tools.once({ signal, onProgress, worker, tools }, "quantize", [
    bytes,
    JSON.stringify(spec),
    pictures,
  ]);
  return { model: model as Uint8Array<ArrayBuffer>, layers: JSON.parse(layers) as LayerReport[] };
}
