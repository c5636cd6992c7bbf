// Numbers and errors in words.
import { DsconvError } from "dsconv";

/** Bytes in the unit that suits them, as the command `dsconv` writes them. */
export function bytes(count: number): string {
  if (count < 1024) return `${count} B`;
  return count < 2 ** 20 ? `${(count / 1024).toFixed(1)} KiB` : `${(count / 2 ** 20).toFixed(1)} MiB`;
}

/** A time with as many digits as it deserves. */
export function milliseconds(time: number): string {
  if (time >= 999.5) return `${(time / 1000).toFixed(time < 9995 ? 2 : 1)} s`;
  return `${time.toFixed(time < 9.95 ? (time < 0.995 ? 2 : 1) : 0)} ms`;
}

/** A score between 0 and 1. */
export function percent(score: number): string {
  return score > 0 && score < 0.01 ? "<1%" : `${Math.round(100 * score)}%`;
}

/** How many times `part` goes into `whole`. */
export function times(whole: number, part: number): string {
  return `${(whole / Math.max(part, 1)).toFixed(1)}×`;
}

/** What went wrong, in a sentence for whoever uses the page. */
export function inWords(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  // A browser's own error of a fetch names neither the file nor the reason.
  if (error instanceof TypeError && /fetch|network/i.test(message)) {
    return "The file could not be fetched: is there a connection? Models work offline once they were used.";
  }
  const sentence = message.charAt(0).toUpperCase() + message.slice(1);
  const hint = error instanceof DsconvError ? HINTS[error.code] : undefined;
  return `${sentence}${/[.!?]$/.test(sentence) ? "" : "."}${hint ? ` ${hint}` : ""}`;
}

const HINTS: Partial<Record<DsconvError["code"], string>> = {
  "out-of-memory": "Close other pages that use the GPU, or take fewer bits.",
};
