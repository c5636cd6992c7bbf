// The device: opening it, and what it tells of itself.
import { Device as ModuleDevice } from "./module/dsconv_web.js";
import { type ModuleSource, compile } from "./compile.js";
import type { Backend } from "./backend.js";
import { CpuBackend } from "./cpu.js";
import { DsconvError, inBrowser, invalid, noWebGpu } from "./errors.js";
import { Made, called, onFailure, start } from "./module.js";
import type { ToolsOptions } from "./tools.js";

/** How to open a device. */
export interface DeviceOptions {
  /** Which adapter to ask the browser for. */
  powerPreference?: "low-power" | "high-performance";
  /**
   * Where the WebAssembly module is, or its bytes, or what was compiled of them; by default beside this file, where
   * most bundlers find it. The first call decides: the module is loaded once.
   */
  module?: ModuleSource;
}

/** Why a device went away. */
export interface DeviceLost {
  readonly message: string;
}

/** A WebGPU device with its compiled kernels, or the processor. */
export class Device {
  readonly #device: Made<Backend>;
  /** `cpu` is a worker on the processor: it runs networks, slowly, and no single layers. */
  readonly kind: "gpu" | "cpu";
  /** Answers when the device goes away, by {@link dispose} or without being asked. */
  readonly lost: Promise<DeviceLost>;
  /** The adapter's description, or what the browser tells of it: maker and family. */
  readonly name: string;
  /** Whether the browser says that a processor plays the GPU, or this is one. */
  readonly software: boolean;
  /** Whether shaders have a packed dot product; without, integer activations are slow. */
  readonly packedDotProduct: boolean;
  /** Whether the browser has `shader-f16`, which layers with `floatFormat: "f16"` want. */
  readonly shaderF16: boolean;

  private constructor(device: Backend, lost: Promise<DeviceLost>, told: Told) {
    this.#device = new Made(device);
    this.lost = lost;
    this.kind = told.kind;
    this.name = told.name;
    this.software = told.software;
    this.packedDotProduct = told.packedDotProduct;
    this.shaderF16 = told.shaderF16;
  }

  /**
   * Opens a device.
   *
   * @throws {NoWebGpuError} where there is no WebGPU; its message says what to enable.
   * @throws {LoadError} where the WebAssembly module can't be loaded.
   */
  static async open(options: DeviceOptions = {}): Promise<Device> {
    const { powerPreference, module } = options;
    if (powerPreference !== undefined && powerPreference !== "low-power" && powerPreference !== "high-performance") {
      throw invalid("powerPreference", '"low-power" or "high-performance"', powerPreference);
    }
    if (!inBrowser() || !navigator.gpu) throw noWebGpu("api");
    const adapter = await navigator.gpu.requestAdapter(powerPreference && { powerPreference });
    // The module relies on what a real one has.
    if (!(adapter instanceof GPUAdapter)) throw noWebGpu("adapter");
    await start(await compile(module));
    const { promise: lost, resolve: onLost } = later<DeviceLost>();
    const device = await called(() =>
      ModuleDevice.open(powerPreference, (message: string) => onLost({ message })),
    ).catch((error: unknown) => {
      throw error instanceof DsconvError && error.code === "no-webgpu" ? noWebGpu("adapter") : error;
    });
    void lost.then(onFailure(({ message }) => onLost({ message })));
    const name = nameOf(adapter.info, device.name);
    const { software, packedDotProduct, shaderF16 } = device;
    return new Device(device, lost, { kind: "gpu", name, software, packedDotProduct, shaderF16 });
  }

  /**
   * The processor as a device, in a worker, for browsers without WebGPU: networks run with float activations, on one
   * thread, one after the other. It takes some seconds for what a GPU does in milliseconds.
   *
   * @throws {LoadError} where the worker or its WebAssembly module can't be loaded.
   */
  static async cpu(options: ToolsOptions = {}): Promise<Device> {
    const { promise: lost, resolve: onLost } = later<DeviceLost>();
    const backend = await CpuBackend.open(options, (message) => onLost({ message }));
    const none = { packedDotProduct: false, shaderF16: false };
    return new Device(backend, lost, { kind: "cpu", name: "the processor", software: true, ...none });
  }

  /** Gives up the device with everything on it. Its layers can't run any more. */
  dispose(): void {
    if (this.#device.alive) this.#device.object.destroy();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** @internal */
  get backend(): Backend {
    return this.#device.object;
  }
}

/** What a device tells of itself. */
type Told = Pick<Device, "kind" | "name" | "software" | "packedDotProduct" | "shaderF16">;

/** A promise with what resolves it. */
function later<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((given) => {
    resolve = given;
  });
  return { promise, resolve };
}

/** Browsers hide most of what a device is; some say nothing at all. */
function nameOf({ vendor, architecture }: GPUAdapterInfo, description: string): string {
  return description || [vendor, architecture].filter(Boolean).join(" ") || "a GPU that the browser does not name";
}
