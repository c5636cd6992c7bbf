// Networks: loading, running, classifying pictures, and timing the steps.
import type { Runner } from "./backend.js";
import type { Device } from "./device.js";
import { invalid } from "./errors.js";
import { Made, called } from "./module.js";
import { type Picture, pixels } from "./picture.js";
import { type LoadProgress, type ModelSource, read } from "./source.js";
import { type Tensor, floats } from "./tensor.js";
import { Tools, type ToolsOptions } from "./tools.js";

/** How a network is loaded and runs. */
export interface NetworkOptions extends ToolsOptions {
  /** `int8` quantises what layers with integer weights read, and multiplies integers; by default `f32`. */
  activations?: "f32" | "int8";
  /** Hears of the download. */
  onProgress?: LoadProgress;
  /** Ends the loading; then {@link Network.load} rejects with the signal's reason, as `fetch` does. */
  signal?: AbortSignal;
}

/** An input or output of a network. */
export interface NetworkEnd {
  readonly name: string;
  /** Its extents; `null` where they are open. Outputs often tell none: then there is nothing in it. */
  readonly shape: readonly (number | null)[];
}

/** What a convolution of a network is, and what it takes. */
export interface LayerReport {
  readonly name: string;
  /** Of the weights: `[outputs, inputs / groups, height, width]`. */
  readonly shape: readonly [number, number, number, number];
  readonly groups: number;
  /** Bits of a weight; `null` for floats. */
  readonly bits: number | null;
  /** Bytes as floats, without bias. */
  readonly floatBytes: number;
  /** Bytes now: integers and their scales, or floats. */
  readonly bytes: number;
  /** Signal to noise of the weights in dB, where the floats are known that they came from. */
  readonly weightSnr?: number;
}

/** Bytes of device memory, by purpose. */
export interface NetworkMemory {
  /** Weights of convolutions. */
  readonly weights: number;
  /** Other tensors known beforehand. */
  readonly constants: number;
  /** Inputs, outputs and all tensors between them. */
  readonly tensors: number;
  /** Geometry. */
  readonly parameters: number;
  readonly total: number;
}

/** A class, its name and its probability. */
export interface Class {
  readonly index: number;
  /** `class` and the index, where the model has no names. */
  readonly label: string;
  /** 0 to 1. */
  readonly score: number;
}

/** What is on a picture. */
export interface Classification {
  /** The likeliest first. */
  readonly classes: readonly Class[];
  /**
   * How long the network took, with upload and download, but without the picture's preparation. The first run
   * compiles.
   */
  readonly milliseconds: number;
}

/** A dispatch of a run. */
export interface Step {
  /** Of the network's node. A node may take several. */
  readonly name: string;
  readonly kernel: string;
  readonly milliseconds: number;
}

/** Where the time goes. */
export interface Profile {
  readonly steps: readonly Step[];
  /** `gpu` where the device tells times; `wall` where each step is submitted and waited for, which takes longer. */
  readonly clock: "gpu" | "wall";
}

/** What the module tells of a network, as JSON. */
interface Description {
  inputs: NetworkEnd[];
  outputs: NetworkEnd[];
  labels?: string[];
  layers: LayerReport[];
}

/** A network whose weights are in device memory. */
export class Network {
  readonly #network: Made<Runner>;
  /** Calls under way. */
  #uses = 0;
  #disposed = false;
  readonly inputs: readonly NetworkEnd[];
  readonly outputs: readonly NetworkEnd[];
  /** Names of the classes, where the model has them. */
  readonly labels?: readonly string[];
  /** The convolutions, in the order they run in. */
  readonly layers: readonly LayerReport[];

  private constructor(network: Runner) {
    const { inputs, outputs, labels, layers } = JSON.parse(network.describe()) as Description;
    this.#network = new Made(network);
    this.inputs = inputs;
    this.outputs = outputs;
    if (labels) this.labels = labels;
    this.layers = layers;
  }

  /**
   * Loads a model file, or ONNX, which a worker makes a model file of.
   *
   * @throws {LoadError} for what can't be fetched; {@link InvalidInputError} for what is no model;
   *   {@link UnsupportedError} names all nodes of an ONNX file that this library does not take; {@link LimitError} for
   *   a network too large for the device.
   */
  static async load(device: Device, source: ModelSource, options: NetworkOptions = {}): Promise<Network> {
    const { activations = "f32", onProgress, signal, worker, tools } = options;
    if (activations !== "f32" && activations !== "int8") {
      throw invalid("activations", '"f32" or "int8"', activations);
    }
    let bytes = await read(source, onProgress, signal);
    if (device.kind === "gpu" && !isModelFile(bytes)) {
      bytes = await Tools.once({ worker, tools, signal }, "convert", [bytes]);
    }
    const network = await called(() => device.backend.network(bytes, activations === "int8"));
    if (signal?.aborted) {
      network.dispose();
      throw signal.reason;
    }
    return new Network(network);
  }

  /** Device memory that the network holds now. */
  get memoryUse(): NetworkMemory {
    return JSON.parse(this.#network.object.memoryUse()) as NetworkMemory;
  }

  /**
   * Says what is on a picture, which is prepared as the model's file tells, or else as is usual for ImageNet.
   *
   * @param options.top how many classes to give; by default 5.
   * @throws {InvalidInputError} for a network that takes no picture or gives no scores; {@link DeviceLostError} asks
   *   for a new device.
   */
  async classify(picture: Picture, options: { top?: number } = {}): Promise<Classification> {
    const { top = 5 } = options;
    if (!(Number.isInteger(top) && top > 0)) throw invalid("top", "a whole number above 0", top);
    const json = await this.#used(async () => {
      const { data, width, height } = await pixels(picture);
      return called(() => this.#network.object.classify(bytes(data), width, height, top));
    });
    return JSON.parse(json) as Classification;
  }

  /**
   * Runs the network: copies its inputs to the device and its outputs back. Another shape than the last one's
   * prepares the network anew.
   *
   * @throws {InvalidInputError} names what is wrong; {@link DeviceLostError} asks for a new device.
   */
  async run(inputs: Tensor | readonly Tensor[]): Promise<Tensor[]> {
    const tensors = isList(inputs) ? inputs : [inputs];
    tensors.forEach(({ data }, index) => floats(`inputs[${index}].data`, data));
    const parts = tensors.map(({ data, shape }) => ({ data, shape: Float64Array.from(shape) }));
    return this.#used(() => called(() => this.#network.object.run(parts)));
  }

  /**
   * Measures each step of a run.
   *
   * @throws as {@link classify}.
   */
  async profile(picture: Picture): Promise<Profile> {
    const json = await this.#used(async () => {
      const { data, width, height } = await pixels(picture);
      return called(() => this.#network.object.profile(bytes(data), width, height));
    });
    return JSON.parse(json) as Profile;
  }

  /** Frees the network's memory. Calls that have begun are finished first. */
  dispose(): void {
    this.#disposed = true;
    if (this.#uses === 0 && this.#network.alive) this.#network.object.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Keeps the network for a call, which may wait for a picture's pixels before it comes to the module. */
  async #used<T>(call: () => Promise<T>): Promise<T> {
    if (this.#disposed) throw invalid("network", "one that is not disposed of", this);
    this.#uses += 1;
    try {
      return await call();
    } finally {
      this.#uses -= 1;
      if (this.#disposed) this.dispose();
    }
  }
}

/** Whether these bytes are safetensors: they start with the length of JSON in eight bytes, of which the last are 0. */
function isModelFile(bytes: Uint8Array): boolean {
  return bytes[8] === 0x7b && bytes.subarray(4, 8).every((byte) => byte === 0);
}

function isList(inputs: Tensor | readonly Tensor[]): inputs is readonly Tensor[] {
  return Array.isArray(inputs);
}

function bytes(data: Uint8ClampedArray | Uint8Array): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
