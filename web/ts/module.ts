// The WebAssembly module: loading it once, and calling it.
import initModule, { type InitInput } from "./module/dsconv_web.js";
import { InternalError, LoadError, fromModule } from "./errors.js";

/** Where the WebAssembly module is, or its bytes. */
export type ModuleSource = string | URL | Request | Response | BufferSource | WebAssembly.Module;

let module: Promise<unknown> | undefined;

/** Loads the WebAssembly module, once. */
export function load(source: ModuleSource | undefined): Promise<unknown> {
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
export async function called<T>(call: () => T | Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError || error instanceof RangeError) {
      const message = `the WebAssembly module failed, perhaps for want of memory: ${error.message}`;
      throw new InternalError("internal", message, { cause: error });
    }
    throw fromModule(error);
  }
}
