// Reading a model from wherever it is, with progress.
import { InvalidInputError, LimitError, LoadError, invalid } from "./errors.js";
import { kindOf } from "./kind.js";

/** A model file's bytes, or where they are. */
export type ModelSource = string | URL | Request | Response | Blob | ArrayBuffer | Uint8Array;

/** Called with the bytes that are there, and of how many where that is known. */
export type LoadProgress = (loadedBytes: number, totalBytes?: number) => void;

/** What the module's 32 bits address with room for what is made of it. */
const MOST_BYTES = 2 ** 30;

/**
 * @internal Reads all bytes of what may be a model. An abort rejects with the signal's reason; what `progress` throws
 * is thrown here.
 */
export async function read(source: ModelSource, progress?: LoadProgress, signal?: AbortSignal): Promise<Uint8Array> {
  signal?.throwIfAborted();
  const [bytes, where] = await bytesOf(source, progress, signal);
  signal?.throwIfAborted();
  const kind = kindOf(bytes);
  if (kind === undefined) return bytes;
  const message = `${where}: expected a model file of dsconv or an ONNX file, got ${kind}`;
  throw new InvalidInputError("invalid-input", message);
}

/** The bytes, and what to call them. */
async function bytesOf(
  source: ModelSource,
  progress: LoadProgress | undefined,
  signal: AbortSignal | undefined,
): Promise<[bytes: Uint8Array, where: string]> {
  if (source instanceof ArrayBuffer) source = new Uint8Array(source);
  if (source instanceof Uint8Array) {
    checkLength(source.length);
    progress?.(source.length, source.length);
    return [source, "the model"];
  }
  if (source instanceof Blob) {
    const where = source instanceof File ? source.name : "the model";
    return [await drain({ stream: source.stream(), total: source.size, where }, progress, signal), where];
  }
  const response = source instanceof Response ? source : await fetched(source, signal);
  const where = response.url || "the model";
  if (!response.ok) throw new LoadError("load", `${where}: ${response.status} ${response.statusText}`.trimEnd());
  if (response.bodyUsed || response.body?.locked) {
    throw invalid("source", "a response that nobody reads or has read yet", response);
  }
  if (!response.body) return [new Uint8Array(), where];
  const download = { stream: response.body, total: contentLength(response), where };
  return [await drain(download, progress, signal), where];
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

/** Bytes to come: of how many where that is known, and from where. */
interface Download {
  readonly stream: ReadableStream<Uint8Array>;
  readonly total: number | undefined;
  readonly where: string;
}

async function drain(
  { stream, total, where }: Download,
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
      const { done, value } = await reader.read().catch((error: unknown) => {
        if (signal?.aborted) throw signal.reason;
        throw new LoadError("load", `${where}: ${String(error)}`, { cause: error });
      });
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
