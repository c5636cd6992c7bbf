/// <reference lib="esnext.disposable" preserve="true" />
/**
 * DSConv in the browser: convolution networks whose weights are 2- to 8-bit integers with a float scale per
 * block of channels, on WebGPU.
 *
 * ```js
 * import { Device, Network } from "dsconv";
 * const device = await Device.open();
 * const network = await Network.load(device, "efficientnet-lite0-i4.safetensors");
 * const { classes } = await network.classify(document.querySelector("img"));
 * network.dispose();
 * device.dispose();
 * ```
 *
 * @module
 */

export { Device, type DeviceLost, type DeviceOptions } from "./device.js";
export {
  DeviceLostError,
  DsconvError,
  type ErrorCode,
  GpuError,
  InternalError,
  InvalidInputError,
  LimitError,
  LoadError,
  NoWebGpuError,
  OutOfMemoryError,
  UnsupportedError,
} from "./errors.js";
export type { ModuleSource } from "./compile.js";
export {
  type Activation,
  type FloatWeights,
  type Geometry,
  type IntegerWeights,
  type KernelName,
  Layer,
  type LayerOptions,
  type Partition,
  type QuantizedWeights,
  type Shape,
} from "./layer.js";
export {
  type Class,
  type Classification,
  type LayerReport,
  Network,
  type NetworkEnd,
  type NetworkMemory,
  type NetworkOptions,
  type Profile,
  type Step,
} from "./network.js";
export type { Picture, Pixels } from "./picture.js";
export { type Preprocessing, type Quantized, type QuantizeOptions, quantize } from "./quantize.js";
export type { LoadProgress, ModelSource } from "./source.js";
export type { Tensor } from "./tensor.js";
export type { LayerProgress, ToolsOptions } from "./tools.js";
