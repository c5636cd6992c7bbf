// The device: opening it, and what it tells of itself.
import { Device as ModuleDevice } from "./module/dsconv_web.js";
import { DsconvError, noWebGpu } from "./errors.js";
import { type ModuleSource, called, load } from "./module.js";

/** How to open a device. */
export interface DeviceOptions {
  /** Which adapter to ask the browser for. */
  powerPreference?: "low-power" | "high-performance";
  /**
   * Where the WebAssembly module is, or its bytes; by default beside this file, where bundlers find it. The first
   * call decides: the module is loaded once.
   */
  module?: ModuleSource;
}

/** Why a device went away. */
export interface DeviceLost {
  readonly message: string;
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

  /** Whether the browser has `shader-f16`, which layers with `floatFormat: "f16"` want. */
  get shaderF16(): boolean {
    return this.#device.shaderF16;
  }

  /** Gives up the device with everything on it. Its layers can't run any more. */
  dispose(): void {
    this.#device.destroy();
  }

  /** @internal */
  get module(): ModuleDevice {
    return this.#device;
  }
}
