// What a device and a network do, wherever they are: WebGPU's module, or the worker.
import type { Layer as ModuleLayer } from "./module/dsconv_web.js";
import type { Tensor } from "./tensor.js";
import type { Part } from "./worker.js";

/** A device. */
export interface Backend {
  network(bytes: Uint8Array, int8: boolean): Promise<Runner>;
  layer(spec: string, tensors: object): Promise<ModuleLayer>;
  destroy(): void;
}

/** A network. What it tells of itself is JSON. */
export interface Runner {
  describe(): string;
  memoryUse(): string;
  classify(rgba: Uint8Array, width: number, height: number, top: number): Promise<string>;
  run(inputs: Part[]): Promise<Tensor[]>;
  profile(rgba: Uint8Array, width: number, height: number): Promise<string>;
  dispose(): void;
}
