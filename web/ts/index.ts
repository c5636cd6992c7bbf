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

export * from "./device.js";
export * from "./errors.js";
export * from "./layer.js";
export * from "./network.js";
export * from "./picture.js";
export * from "./quantize.js";
export type { ModelSource } from "./source.js";
export type { ModuleSource } from "./module.js";
export type { Tensor } from "./tensor.js";
