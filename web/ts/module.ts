// The WebAssembly module: starting it once, and calling it.
import initModule, { __wbg_reset_state as startAnew } from "./module/dsconv_web.js";
import { DeviceLostError, InternalError, LoadError, fromModule, isTrap } from "./errors.js";

let started: Promise<unknown> | undefined;
/** Whether the module has failed, and no fresh one could take its place yet. */
let dead = false;
/** How often the module has failed. */
let failures = 0;
const listeners = new Set<(lost: DeviceLostError) => void>();

/** Starts the WebAssembly module, once; anew where it is dead. */
export async function start(compiled: WebAssembly.Module): Promise<void> {
  started ??= initModule({ module_or_path: compiled }).catch((error: unknown) => {
    started = undefined;
    throw new LoadError("load", `the WebAssembly module could not be started: ${String(error)}`, { cause: error });
  });
  await started;
  if (dead) revive();
}

/** Puts a fresh module in the place of the one that failed. */
function revive(): void {
  try {
    startAnew();
    dead = false;
  } catch (error) {
    const message = "the WebAssembly module failed and could not be started anew";
    throw new InternalError("internal", `${message}: ${String(error)}; load the page again`, { cause: error });
  }
}

/** Calls back if the module fails, until the function that this gives is called. */
export function onFailure(listener: (lost: DeviceLostError) => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Calls the module, and turns its errors into those of this package. */
export async function called<T>(call: () => T | Promise<T>): Promise<T> {
  let end = (): void => {};
  try {
    // What waits in a module that has failed would wait for ever.
    const failed = new Promise<never>((_, reject) => (end = onFailure(reject)));
    return await Promise.race([call(), failed]);
  } catch (error) {
    end();
    throw isTrap(error) ? failure(error) : fromModule(error);
  } finally {
    end();
  }
}

/** What has failed is in no state to go on from: a fresh module takes its place, and what the old one made is lost. */
function failure(cause: Error): InternalError {
  failures += 1;
  dead = true;
  for (const listener of [...listeners]) listener(lost());
  try {
    revive();
  } catch {
    // There may be memory again when a device is opened.
  }
  const message = `the WebAssembly module failed, perhaps for want of memory: ${cause.message}`;
  return new InternalError("internal", `${message}; open a new device, and load again`, { cause });
}

const lost = (): DeviceLostError =>
  new DeviceLostError("device-lost", "the WebAssembly module failed: open a new device, and load again");

/** What the module has made, for as long as the module lives. */
export class Made<T> {
  readonly #object: T;
  readonly #failures = failures;

  constructor(object: T) {
    this.#object = object;
  }

  /** Whether the module that made it lives. */
  get alive(): boolean {
    return this.#failures === failures;
  }

  get object(): T {
    if (!this.alive) throw lost();
    return this.#object;
  }
}
