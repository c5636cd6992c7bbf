// What bytes are, for errors about files that are not what they should be.

/** The first bytes of kinds of files that are met in place of a model; `.` is any byte. */
const BEGINNINGS: readonly (readonly [beginning: string, kind: string])[] = [
  ["\0asm", "a WebAssembly module"],
  ["\xff\xd8\xff", "a JPEG picture"],
  ["\x89PNG", "a PNG picture"],
  ["GIF8", "a GIF picture"],
  ["RIFF....WEBP", "a WebP picture"],
  ["....ftypavif", "an AVIF picture"],
  ["version https://git-lfs", "a Git LFS pointer in place of the file (git lfs pull fetches it)"],
  ["PK\x03\x04", "a zip archive, such as PyTorch's or Keras's"],
  ["\x1f\x8b", "a gzip archive"],
  ["\x89HDF", "an HDF5 file"],
  ["GGUF", "a GGUF file"],
  ["....TFL3", "a TensorFlow Lite file"],
  ["%PDF", "a PDF"],
];

/** The kind of a file that is no model, by its first bytes. */
export function kindOf(bytes: Uint8Array): string | undefined {
  if (bytes.length === 0) return "an empty file";
  const start = String.fromCharCode(...bytes.subarray(0, 64));
  const known = BEGINNINGS.find(([beginning]) =>
    [...beginning].every((letter, at) => letter === "." || letter === start[at]),
  );
  if (known) return known[1];
  // With or without the mark of UTF-8 before it.
  const text = start.replace(/^\xef\xbb\xbf/, "").trimStart().toLowerCase();
  if (/^<(!doctype html|html|!--|head|body)/.test(text)) return "a page of HTML (is the address right?)";
  if (/^<(\?xml|svg)/.test(text)) return "XML";
  return undefined;
}
