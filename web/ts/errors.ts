// Errors: a class and a code for each kind, and what to do where there is no WebGPU.
/** What went wrong, for programs. */
export type ErrorCode =
  /** No WebGPU, or no adapter: the message says what to enable. */
  | "no-webgpu"
  /** The WebAssembly module, a model or quantize's worker could not be loaded. */
  | "load"
  /** An argument is wrong: the message names it, what was expected and what came. */
  | "invalid-input"
  /** A meaningful request that this kernel or device can't do. */
  | "unsupported"
  /** Something is over a limit of the device. */
  | "limit"
  /** The device is lost: open a new one and make the layers again. */
  | "device-lost"
  /** The device has no memory left. */
  | "out-of-memory"
  /** WebGPU refused something that this library believed right. */
  | "gpu"
  /** The WebAssembly module failed: a defect, or no memory left. */
  | "internal";

/** Every error of this library. */
export class DsconvError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** There is no WebGPU, or it has no adapter. */
export class NoWebGpuError extends DsconvError {}
/** The WebAssembly module, a model or quantize's worker could not be loaded. */
export class LoadError extends DsconvError {}
/** An argument is wrong. */
export class InvalidInputError extends DsconvError {}
/** This kernel or device can't do what was asked. */
export class UnsupportedError extends DsconvError {}
/** Something is over a limit of the device. */
export class LimitError extends DsconvError {}
/** The device is lost. */
export class DeviceLostError extends DsconvError {}
/** The device has no memory left. */
export class OutOfMemoryError extends DsconvError {}
/** WebGPU refused something. */
export class GpuError extends DsconvError {}
/** The WebAssembly module failed. */
export class InternalError extends DsconvError {}

const classes: Record<ErrorCode, typeof DsconvError> = {
  "no-webgpu": NoWebGpuError,
  load: LoadError,
  "invalid-input": InvalidInputError,
  unsupported: UnsupportedError,
  limit: LimitError,
  "device-lost": DeviceLostError,
  "out-of-memory": OutOfMemoryError,
  gpu: GpuError,
  internal: InternalError,
};

/** The module's error as one of the classes; others as they are. */
export function fromModule(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof DsconvError || !("code" in error)) return error;
  return isCode(error.code) ? withCode(error.code, error.message) : error;
}

/** @internal */
export function withCode(code: ErrorCode, message: string): DsconvError {
  return new classes[code](code, message);
}

function isCode(code: unknown): code is ErrorCode {
  return typeof code === "string" && Object.hasOwn(classes, code);
}

/** Whether the module stopped where it stood: at a trap, without memory, or without stack, as each browser says it. */
export function isTrap(error: unknown): error is Error {
  if (error instanceof WebAssembly.RuntimeError || error instanceof RangeError) return true;
  return error instanceof Error && error.message === "too much recursion";
}

/** An argument that is not what it should be. */
export function invalid(field: string, expected: string, got: unknown): InvalidInputError {
  return new InvalidInputError("invalid-input", `${field}: expected ${expected}, got ${describe(got)}`);
}

function describe(value: unknown): string {
  if (typeof value === "object" && value !== null) return value.constructor?.name ?? "an object";
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}

/** Whether this is a page or a worker, and not Node. */
export function inBrowser(): boolean {
  return "Window" in globalThis || "WorkerGlobalScope" in globalThis;
}

/** What to do where there is no WebGPU. */
export function noWebGpu(why: "api" | "adapter"): NoWebGpuError {
  if (!inBrowser()) {
    const where = "WebGPU is used in a browser's page or worker; elsewhere, use the command dsconv";
    return new NoWebGpuError("no-webgpu", where);
  }
  const agent = navigator.userAgent;
  const enable = /firefox\//i.test(agent)
    ? "in Firefox, set dom.webgpu.enabled (and gfx.webgpu.ignore-blocklist for an unlisted driver) to true in " +
      "about:config"
    : /chrome\//i.test(agent)
      ? "in Chrome and Edge, turn on hardware acceleration in the settings and, on Linux, " +
        "chrome://flags/#enable-unsafe-webgpu and chrome://flags/#enable-vulkan"
      : /safari\//i.test(agent)
        ? "in Safari, use version 26 or later, or turn on WebGPU under Develop > Feature Flags"
        : "use a browser with WebGPU, or turn it on in this one's settings";
  const what =
    why === "adapter"
      ? "WebGPU found no adapter"
      : globalThis.isSecureContext
        ? "this browser has no WebGPU, or it is switched off"
        : "WebGPU needs a secure page: serve it by https, or from localhost";
  return new NoWebGpuError("no-webgpu", `${what}; ${enable}`);
}
