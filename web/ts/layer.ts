// Single layers, from integers and their scales or from floats.
import type { Layer as ModuleLayer } from "./module/dsconv_web.js";
import type { Device } from "./device.js";
import { invalid } from "./errors.js";
import { Made, called } from "./module.js";
import { type Tensor, floats, optionalFloats } from "./tensor.js";

/** `[batch, channels, height, width]`. */
export type Shape = readonly [batch: number, channels: number, height: number, width: number];

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

/** A kernel's name. A test (web/tests/kernel_names.rs) holds this to the library's table. */
export type KernelName =
  | "conv_direct"
  | "conv_gemm"
  | "conv_gemm_wide"
  | "conv_subgroup"
  | "conv_depthwise"
  | "conv_depthwise_window"
  | "conv_depthwise_nhwc"
  | "conv_gemm_int8"
  | "conv_gemm_int8_unsigned"
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
  /**
   * What tensors are on the device; by default `f32`. `f16` takes half of the memory and wants the feature `shader-f16`
   * ({@link Device.shaderF16}); outputs beyond 65,504 saturate.
   */
  floatFormat?: "f32" | "f16";
  /**
   * What the weights' scales are on the device; by default `f32`. `f16` works everywhere and costs up to 0.05% of a
   * weight.
   */
  scaleFormat?: "f32" | "f16";
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

/** The tensors of a layer, as the module takes them. */
interface Tensors {
  weights?: Float32Array | undefined;
  q?: Int32Array | undefined;
  alpha?: Float32Array | undefined;
  kdsBias?: Float32Array | undefined;
  bias?: Float32Array | undefined;
  cdsScale?: Float32Array | undefined;
  cdsShift?: Float32Array | undefined;
}

async function make(device: Device, spec: object, tensors: Tensors): Promise<ModuleLayer> {
  const json = JSON.stringify(spec);
  return called(() => device.backend.layer(json, tensors));
}

/** A convolution whose weights are in device memory. */
export class Layer {
  readonly #layer: Made<ModuleLayer>;
  /** The kernel that runs this layer. */
  readonly kernel: KernelName;

  private constructor(layer: ModuleLayer) {
    this.#layer = new Made(layer);
    this.kernel = layer.kernel as KernelName;
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
    return new Layer(await make(device, { geometry, format, options }, tensors));
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
    return new Layer(await make(device, spec, tensors));
  }

  /** Bytes of device memory that the layer holds; 0 once disposed of. */
  get memoryUse(): number {
    return this.#layer.object.memoryUse;
  }

  /**
   * Runs the layer: copies the input to the device and the output back.
   *
   * @param input the values, in the layout of the layer's options.
   * @param shape its shape, `[batch, channels, height, width]` whatever the layout.
   * @param residual the tensor to add, where the layer's options say so.
   * @throws {InvalidInputError} names what is wrong; {@link DeviceLostError} asks for a new device.
   */
  async run(input: Float32Array, shape: Shape, residual?: Float32Array): Promise<Tensor<Shape>> {
    floats("input", input);
    optionalFloats("residual", residual);
    const extents = Float64Array.from(shape);
    return called(async () => {
      const layer = this.#layer.object;
      const output = layer.outputShape(extents);
      const data = (await layer.run(input, extents, residual)) as Float32Array;
      return { data, shape: Array.from(output) as unknown as Shape };
    });
  }

  /** Frees the layer's device memory. */
  dispose(): void {
    if (this.#layer.alive) this.#layer.object.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
