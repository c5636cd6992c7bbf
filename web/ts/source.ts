// Reading a model from wherever it is, with progress.
import { DsconvError, LimitError, LoadError, invalid } from "./errors.js";

/** A model file's bytes, or where they are. */
export type ModelSource = string | URL | Request | Response | Blob | ArrayBuffer | Uint8Array;

/** Called with the bytes that are there, and of how many where that is known. */
export type LoadProgress = (loadedBytes: number, totalBytes?: number) => void;

/** What the module's 32 bits address with room for what is made of it. */
const MOST_BYTES = 2 ** 30;

/** @internal Reads all bytes. An abort rejects with the signal's reason. */
export async function read(source: ModelSource, progress?: LoadProgress, signal?: AbortSignal): Promise<Uint8Array> {
  signal?.throwIfAborted();
  if (source instanceof ArrayBuffer) source = new Uint8Array(source);
  if (source instanceof Uint8Array) {
    checkLength(source.length);
    progress?.(source.length, source.length);
    return source;
  }
  if (source instanceof Blob) return drain(source.stream(), source.size, progress, signal);
  const response = source instanceof Response ? source : await fetched(source, signal);
  const where = response.url || "the model";
  if (!response.ok) throw new LoadError("load", `${where}: ${response.status} ${response.statusText}`.trimEnd());
  if (response.bodyUsed) throw invalid("source", "a response that nobody has read yet", response);
  if (!response.body) return new Uint8Array();
  try {
    return await drain(response.body, contentLength(response), progress, signal);
  } catch (error) {
    if (signal?.aborted || error instanceof DsconvError) throw error;
    throw new LoadError("load", `${where}: ${String(error)}`, { cause: error });
  }
}

async function fetched(source: string | URL | Request, signal: AbortSignal | undefined): Promise<Response> {
  const known = typeof source === "string" || source instanceof URL || source instanceof Request;
  if (!known) throw invalid("source", "a URL, Request, Response, Blob, ArrayBuffer or Uint8Array", source);
  try {
    return await fetch(source, signal ? { signal } : {});
  } catch (error) {
    if (signal?.aborted) throw error;
    const where = source instanceof Request ? source.url : String(source);
    throw new LoadError("load", `${where}: ${String(error)}`, { cause: error });
  }
}

/** The number of bytes to come, where the server says it: not that of compressed ones. */
function contentLength(response: Response): number | undefined {
  const length = Number(response.headers.get("content-length") ?? Number.NaN);
  return response.headers.has("content-encoding") || !Number.isFinite(length) ? undefined : length;
}

async function drain(
  stream: ReadableStream<Uint8Array>,
  total: number | undefined,
  progress: LoadProgress | undefined,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  checkLength(total ?? 0);
  const reader = stream.getReader();
  const stop = (): void => void reader.cancel(signal?.reason).catch(() => {});
  signal?.addEventListener("abort", stop);
  try {
    const chunks: Uint8Array[] = [];
    let length = 0;
    for (;;) {
      const { done, value } = await reader.read();
      // A stream that is cancelled says that it is done.
      signal?.throwIfAborted();
      if (done) break;
      chunks.push(value);
      length += value.length;
      checkLength(length);
      progress?.(length, total);
    }
    const bytes = new Uint8Array(length);
    let at = 0;
    for (const chunk of chunks) {
      bytes.set(chunk, at);
      at += chunk.length;
    }
    return bytes;
  } catch (error) {
    stop();
    throw error;
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

function checkLength(length: number): void {
  if (length <= MOST_BYTES) return;
  throw new LimitError("limit", `the model: expected at most ${MOST_BYTES} bytes, got ${length}`);
}
