// A device that is the processor, where a browser has no WebGPU.
import { type DsconvError, DeviceLostError, UnsupportedError } from "./errors.js";
import type { Backend, Runner } from "./backend.js";
import type { Layer as ModuleLayer } from "./module/dsconv_web.js";
import type { Tensor } from "./tensor.js";
import { Tools, type ToolsOptions } from "./tools.js";
import type { Part } from "./worker.js";

/** A worker that runs networks, one call after the other. */
export class CpuBackend implements Backend {
  readonly #tools: Tools;
  readonly #onLost: (message: string) => void;

  private constructor(tools: Tools, onLost: (message: string) => void) {
    this.#tools = tools;
    this.#onLost = onLost;
    tools.onFailed = ({ message }: DsconvError) => onLost(message);
  }

  static async open(options: ToolsOptions, onLost: (message: string) => void): Promise<CpuBackend> {
    return new CpuBackend(await Tools.start(options), onLost);
  }

  async network(bytes: Uint8Array, int8: boolean): Promise<Runner> {
    if (int8) throw unsupported("integer activations: leave out `activations`");
    const { id, description } = await this.#tools.call("load", [bytes]);
    return new CpuNetwork(this.#tools, id, description);
  }

  async layer(): Promise<ModuleLayer> {
    throw unsupported("single layers: run a network");
  }

  destroy(): void {
    this.#tools.end(new DeviceLostError("device-lost", "disposed"));
    this.#onLost("disposed");
  }
}

const unsupported = (what: string): UnsupportedError =>
  new UnsupportedError("unsupported", `the processor does not run ${what}, or open a device of WebGPU`);

/** A network in the worker. */
class CpuNetwork implements Runner {
  readonly #tools: Tools;
  readonly #id: number;
  readonly #description: string;

  constructor(tools: Tools, id: number, description: string) {
    this.#tools = tools;
    this.#id = id;
    this.#description = description;
  }

  describe(): string {
    return this.#description;
  }

  /** There is no device memory. */
  memoryUse(): string {
    return '{"weights":0,"constants":0,"tensors":0,"parameters":0,"total":0}';
  }

  classify(rgba: Uint8Array, width: number, height: number, top: number): Promise<string> {
    return this.#tools.call("classify", [this.#id, rgba, width, height, top]);
  }

  run(inputs: Part[]): Promise<Tensor[]> {
    return this.#tools.call("run", [this.#id, inputs]);
  }

  profile(rgba: Uint8Array, width: number, height: number): Promise<string> {
    return this.#tools.call("profile", [this.#id, rgba, width, height]);
  }

  dispose(): void {
    // Where the worker has ended, there is nothing to free.
    this.#tools.call("dispose", [this.#id]).catch(() => {});
  }
}
