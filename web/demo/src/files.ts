// Files of one's own: picked, dropped anywhere on the page, or pasted.
import { byId } from "./dom.js";

/** The side of a drawing that says no size, in pixels. */
const DRAWN = 512;

/** A picture's pixels; a drawing (SVG) is drawn first. */
export async function decode(file: Blob): Promise<ImageBitmap> {
  if (!file.type.startsWith("image/svg")) return createImageBitmap(file);
  const image = new Image();
  image.src = URL.createObjectURL(file);
  try {
    await image.decode();
    const [width, height] = [image.naturalWidth || DRAWN, image.naturalHeight || DRAWN];
    const context = new OffscreenCanvas(width, height).getContext("2d");
    if (!context) throw new Error("there is no canvas");
    // A drawing's background is the page's, and most mean paper.
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
    context.drawImage(image, 0, 0, width, height);
    return context.canvas.transferToImageBitmap();
  } finally {
    URL.revokeObjectURL(image.src);
  }
}

/** Wires the ways in which a file comes. */
export function takeFiles(take: (file: File) => void): void {
  const pick = byId<HTMLInputElement>("pick");
  pick.addEventListener("change", () => {
    const [file] = pick.files ?? [];
    if (file) take(file);
    // The same file can be picked again.
    pick.value = "";
  });
  let over = 0;
  const dragging = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
  const mark = (depth: number) => {
    over = depth;
    document.body.classList.toggle("dragging", over > 0);
  };
  addEventListener("dragenter", (event) => dragging(event) && mark(over + 1));
  addEventListener("dragleave", (event) => dragging(event) && mark(Math.max(over - 1, 0)));
  addEventListener("dragover", (event) => dragging(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    mark(0);
    const [file] = event.dataTransfer?.files ?? [];
    if (!file) return;
    event.preventDefault();
    take(file);
  });
  addEventListener("paste", (event) => {
    const [file] = event.clipboardData?.files ?? [];
    if (!file) return;
    event.preventDefault();
    take(file);
  });
}
