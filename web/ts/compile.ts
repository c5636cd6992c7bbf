// Where the WebAssembly modules come from.
import { LoadError, invalid } from "./errors.js";
import { kindOf } from "./kind.js";

/** Where a WebAssembly module is, or its bytes, or what was compiled of them. */
export type ModuleSource = string | URL | Request | Response | BufferSource | WebAssembly.Module;

/** What compiles a module once, and once more after an error. */
function once(beside: () => URL): (source: ModuleSource | undefined) => Promise<WebAssembly.Module> {
  let compiled: Promise<WebAssembly.Module> | undefined;
  return (source) =>
    (compiled ??= from(source ?? beside()).catch((error: unknown) => {
      compiled = undefined;
      throw error;
    }));
}

// Bundlers look for this form. Those that move this file resolve the path as an import of the package's
// dsconv/dsconv.wasm; browsers, as a path from this file. So the files lie in a folder of the package's name.

/** Compiles the module that runs networks, once: where the first call says that it is, or beside this file. */
export const compile = once(() => new URL("dsconv/dsconv.wasm", import.meta.url));

/** Compiles the worker's module likewise. */
export const compileTools = once(() => new URL("dsconv/tools.wasm", import.meta.url));

async function from(source: ModuleSource): Promise<WebAssembly.Module> {
  if (source instanceof WebAssembly.Module) return source;
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) return compileBytes(source, "the bytes given");
  const addressed = typeof source === "string" || source instanceof URL || source instanceof Request;
  if (!addressed && !(source instanceof Response)) {
    throw invalid("module", "a URL, Request, Response, ArrayBuffer, typed array or WebAssembly.Module", source);
  }
  const where = addressed && !(source instanceof Request) ? String(source) : source.url;
  let response: Response;
  try {
    response = addressed ? await fetch(source) : source;
  } catch (error) {
    throw failed(where, String(error), error);
  }
  if (!response.ok) throw failed(where, `${response.status} ${response.statusText}`.trimEnd());
  // Only so does a browser compile while it downloads, and keep what it has compiled.
  if (/^application\/wasm\b/.test(response.headers.get("content-type") ?? "")) {
    return WebAssembly.compileStreaming(response).catch((error: unknown) => {
      throw failed(where, String(error), error);
    });
  }
  const bytes = await response.arrayBuffer().catch((error: unknown) => {
    throw failed(where, String(error), error);
  });
  return compileBytes(bytes, where);
}

async function compileBytes(source: BufferSource, where: string): Promise<WebAssembly.Module> {
  const bytes = ArrayBuffer.isView(source)
    ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength)
    : new Uint8Array(source);
  const kind = kindOf(bytes);
  if (kind !== "a WebAssembly module") {
    throw failed(where, `expected a WebAssembly module, got ${kind ?? "other bytes"}`);
  }
  return WebAssembly.compile(source).catch((error: unknown) => {
    throw failed(where, String(error), error);
  });
}

function failed(where: string, why: string, cause?: unknown): LoadError {
  const what = `the WebAssembly module could not be loaded from ${where}: ${why}`;
  const how =
    "say where dsconv/dsconv.wasm is by the option `module`, and dsconv/tools.wasm by `tools`; the package's " +
    "bundlers.md shows how";
  return new LoadError("load", `${what}; ${how}`, { cause });
}
