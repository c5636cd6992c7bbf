/**
 * DSConv in the browser: convolutions whose weights are 2- to 8-bit integers with a float scale per
 * block of channels, on WebGPU.
 *
 * ```js
 * import { Device, Layer } from "dsconv";
 * const device = await Device.open();
 * const layer = await Layer.fromFloats(device, { inChannels: 8, outChannels: 16, kernel: [3, 3] },
 *   { weights: new Float32Array(16 * 8 * 9).fill(0.1), bits: 4, blockSize: 8 });
 * const output = await layer.run(new Float32Array(8 * 20 * 20), [1, 8, 20, 20]);
 * layer.dispose();
 * device.dispose();
 * ```
 *
 * @module
 */

import initModule, {
  Device as ModuleDevice,
  type InitInput,
  type Layer as ModuleLayer,
} from "./module/dsconv_web.js";
import { DsconvError, LoadError, fromModule, invalid, noWebGpu } from "./errors.js";

export * from "./errors.js";

/** `[batch, channels, height, width]`. */
export type Shape = readonly [batch: number, channels: number, height: number, width: number];

/** How to open a device. */
export interface DeviceOptions {
  /** Which adapter to ask the browser for. */
  powerPreference?: "low-power" | "high-performance";
  /**
   * Where the WebAssembly module is, or its bytes; by default beside this file, where bundlers find it. The first
   * call decides: the module is loaded once.
   */
  module?: string | URL | Request | Response | BufferSource | WebAssembly.Module;
}

/** Why a device went away. */
export interface DeviceLost {
  readonly message: string;
}

/** The geometry of a convolution, as in PyTorch's `Conv2d` and ONNX's `Conv`. */
export interface Geometry {
  /** Channels of the input, over all groups. */
  inChannels: number;
  /** Channels of the output, over all groups. */
  outChannels: number;
  /** `[height, width]`. */
  kernel: readonly [number, number];
  /** `[vertical, horizontal]`; by default 1. */
  stride?: readonly [number, number];
  /** Zeros around the input, `[top, left, bottom, right]`; by default none. */
  padding?: readonly [number, number, number, number];
  /** `[vertical, horizontal]`; by default 1, which is none. */
  dilation?: readonly [number, number];
  /** By default 1; `inChannels` for a depthwise convolution. */
  groups?: number;
}

/** The activation behind a convolution. */
export type Activation =
  | "identity"
  | "relu"
  | "relu6"
  | "silu"
  | "hardSwish"
  | "sigmoid"
  | { leakyRelu: number }
  /** Low and high end. */
  | { clamp: readonly [number, number] };

/** A kernel's name. */
export type KernelName =
  | "conv_direct"
  | "conv_gemm"
  | "conv_gemm_wide"
  | "conv_subgroup"
  | "conv_depthwise"
  | "conv_gemm_int8"
  | "conv_subgroup_int8";

/** How a layer runs: everything that is not learned. */
export interface LayerOptions {
  /** By default `identity`. */
  activation?: Activation;
  /** Where a residual tensor is added; by default there is none. */
  residual?: "before-activation" | "after-activation";
  /** `int8` quantises the input by blocks and multiplies integers; by default `f32`. */
  inputFormat?: "f32" | "int8";
  /** By default `nchw`. */
  inputLayout?: "nchw" | "nhwc";
  /** Of output and residual; by default `nchw`. */
  outputLayout?: "nchw" | "nhwc";
  /** By default the library chooses. */
  kernel?: KernelName;
}

/** How input channels are cut into blocks: a shorter last block, or equal ones with the rest in the last. */
export type Partition = "fixed" | "even";

/** DSConv weights: integers, and a scale `alpha` per block of input channels at one kernel tap. */
export interface IntegerWeights {
  /** The integers, `(outChannels, inChannels / groups, height, width)`, in `-2^(bits-1) .. 2^(bits-1) - 1`. */
  q: Int8Array | Int32Array;
  /** The scales, `(outChannels, blocks, height, width)`. */
  alpha: Float32Array;
  /** 2 to 8. */
  bits: number;
  /** Input channels that share a scale. */
  blockSize: number;
  /** By default `fixed`. */
  partition?: Partition;
  /** An offset per block, of alpha's shape: `w = alpha * q + kdsBias`. */
  kdsBias?: Float32Array;
  /** A scale and a shift per output channel, of the convolution's output or of its kernel. */
  cds?: { reading: "output" | "kernel"; scale: Float32Array; shift: Float32Array };
  /** One per output channel. */
  bias?: Float32Array;
}

/** Float weights that stay floats. */
export interface FloatWeights {
  /** `(outChannels, inChannels / groups, height, width)`. */
  weights: Float32Array;
  /** One per output channel. */
  bias?: Float32Array;
}

/** Float weights, and how they are quantised. */
export interface QuantizedWeights extends FloatWeights {
  /** 2 to 8. */
  bits: number;
  /** Input channels that share a scale. */
  blockSize: number;
  /** By default `fixed`. */
  partition?: Partition;
  /** How scales are found; by default `signed-extreme`, `min-mse` has the smallest error. */
  method?: "signed-extreme" | "abs-max" | "min-mse";
  /** Whether to fit an offset to each block too; by default not. */
  fitKdsBias?: boolean;
}

/** What a layer gives. */
export interface Tensor {
  readonly data: Float32Array;
  readonly shape: Shape;
}

let module: Promise<unknown> | undefined;

function load(source: DeviceOptions["module"]): Promise<unknown> {
  module ??= initModule(source === undefined ? undefined : { module_or_path: source as InitInput }).catch(
    (error: unknown) => {
      module = undefined;
      const message = error instanceof Error ? error.message : String(error);
      throw new LoadError("load", `the WebAssembly module could not be loaded: ${message}`, {
        cause: error,
      });
    },
  );
  return module;
}

/** Calls the module, and turns its errors into those of this package. */
async function called<T>(call: () => T | Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw fromModule(error);
  }
}

/** A WebGPU device with its compiled kernels. */
export class Device {
  readonly #device: ModuleDevice;
  /** Answers when the device goes away, by {@link dispose} or without being asked. */
  readonly lost: Promise<DeviceLost>;

  private constructor(device: ModuleDevice, lost: Promise<DeviceLost>) {
    this.#device = device;
    this.lost = lost;
  }

  /**
   * Opens a device.
   *
   * @throws {NoWebGpuError} where there is no WebGPU; its message says what to enable.
   * @throws {LoadError} where the WebAssembly module can't be loaded.
   */
  static async open(options: DeviceOptions = {}): Promise<Device> {
    if (!("gpu" in navigator) || !navigator.gpu) throw noWebGpu("api");
    await load(options.module);
    let onLost: (lost: DeviceLost) => void = () => {};
    const lost = new Promise<DeviceLost>((resolve) => {
      onLost = resolve;
    });
    const device = await called(() =>
      ModuleDevice.open(options.powerPreference, (message: string) => onLost({ message })),
    ).catch((error: unknown) => {
      throw error instanceof DsconvError && error.code === "no-webgpu" ? noWebGpu("adapter") : error;
    });
    return new Device(device, lost);
  }

  /** The adapter's description; often empty, for browsers hide it. */
  get name(): string {
    return this.#device.name;
  }

  /** Whether the browser says that a processor plays the GPU. */
  get software(): boolean {
    return this.#device.software;
  }

  /** Whether shaders have a packed dot product; without, integer activations are slow. */
  get packedDotProduct(): boolean {
    return this.#device.packedDotProduct;
  }

  /** Gives up the device with everything on it. Its layers can't run any more. */
  dispose(): void {
    this.#device.destroy();
  }

  /** @internal */
  async make(spec: object, tensors: Tensors): Promise<ModuleLayer> {
    const json = JSON.stringify(spec);
    return called(() => this.#device.layer(json, tensors) as Promise<ModuleLayer>);
  }
}

/** @internal */
export interface Tensors {
  weights?: Float32Array | undefined;
  q?: Int32Array | undefined;
  alpha?: Float32Array | undefined;
  kdsBias?: Float32Array | undefined;
  bias?: Float32Array | undefined;
  cdsScale?: Float32Array | undefined;
  cdsShift?: Float32Array | undefined;
}

/** A convolution whose weights are in device memory. */
export class Layer {
  readonly #layer: ModuleLayer;

  private constructor(layer: ModuleLayer) {
    this.#layer = layer;
  }

  /**
   * A layer from integers and their scales.
   *
   * @throws {InvalidInputError} names the field that is wrong; {@link DsconvError} whatever else.
   */
  static async fromIntegers(
    device: Device,
    geometry: Geometry,
    weights: IntegerWeights,
    options: LayerOptions = {},
  ): Promise<Layer> {
    const { q, alpha, bits, blockSize, partition, kdsBias, cds, bias } = weights;
    if (!(q instanceof Int8Array || q instanceof Int32Array)) throw invalid("q", "an Int8Array or Int32Array", q);
    const tensors = {
      q: Int32Array.from(q),
      alpha: floats("alpha", alpha),
      kdsBias: optionalFloats("kdsBias", kdsBias),
      bias: optionalFloats("bias", bias),
      cdsScale: cds && floats("cds.scale", cds.scale),
      cdsShift: cds && floats("cds.shift", cds.shift),
    };
    const format = { bits, blockSize, partition, cds: cds?.reading };
    return new Layer(await device.make({ geometry, format, options }, tensors));
  }

  /**
   * A layer from float weights: quantised where `weights` says how many bits, else in floats.
   *
   * @throws {InvalidInputError} names the field that is wrong; {@link DsconvError} whatever else.
   */
  static async fromFloats(
    device: Device,
    geometry: Geometry,
    weights: FloatWeights | QuantizedWeights,
    options: LayerOptions = {},
  ): Promise<Layer> {
    const { weights: values, bias, ...format } = weights;
    const tensors = { weights: floats("weights", values), bias: optionalFloats("bias", bias) };
    const quantized = Object.keys(format).length > 0;
    const spec = { geometry, options, ...(quantized ? { format } : {}) };
    return new Layer(await device.make(spec, tensors));
  }

  /** The kernel that runs this layer. */
  get kernel(): KernelName {
    return this.#layer.kernel as KernelName;
  }

  /** Bytes of device memory that the layer holds; 0 once disposed of. */
  get memoryUse(): number {
    return this.#layer.memoryUse;
  }

  /**
   * Runs the layer: copies the input to the device and the output back.
   *
   * @param input the values, in the layout of the layer's options.
   * @param shape its shape, `[batch, channels, height, width]` whatever the layout.
   * @param residual the tensor to add, where the layer's options say so.
   * @throws {InvalidInputError} names what is wrong; {@link DeviceLostError} asks for a new device.
   */
  async run(input: Float32Array, shape: Shape, residual?: Float32Array): Promise<Tensor> {
    floats("input", input);
    optionalFloats("residual", residual);
    const extents = Float64Array.from(shape);
    return called(async () => {
      const output = this.#layer.outputShape(extents);
      const data = (await this.#layer.run(input, extents, residual)) as Float32Array;
      return { data, shape: Array.from(output) as unknown as Shape };
    });
  }

  /** Frees the layer's device memory. */
  dispose(): void {
    this.#layer.dispose();
  }
}

function floats(field: string, value: unknown): Float32Array {
  if (value instanceof Float32Array) return value;
  throw invalid(field, "a Float32Array", value);
}

function optionalFloats(field: string, value: unknown): Float32Array | undefined {
  return value === undefined ? undefined : floats(field, value);
}
