// Pictures in every form that a browser has them, as pixels.
import { invalid } from "./errors.js";
import { kindOf } from "./kind.js";

/** Pixels: red, green, blue and alpha of each, row by row from the top. Alpha is ignored. */
export interface Pixels {
  readonly data: Uint8ClampedArray | Uint8Array;
  readonly width: number;
  readonly height: number;
}

/** A picture. One of another page must come with CORS, or the browser hides its pixels. */
export type Picture =
  | Blob
  | Pixels
  | ImageData
  | ImageBitmap
  | HTMLImageElement
  | HTMLCanvasElement
  | OffscreenCanvas
  | HTMLVideoElement;

/** @internal The pixels of a picture, in its own size. */
export async function pixels(picture: Picture): Promise<Pixels> {
  if (picture instanceof Blob) {
    const bitmap = await decoded(picture);
    try {
      return drawn(bitmap);
    } finally {
      bitmap.close();
    }
  }
  if (typeof picture !== "object" || picture === null) throw invalid("picture", A_PICTURE, picture);
  if ("data" in picture) {
    const { data, width, height } = picture;
    const bytes = data instanceof Uint8ClampedArray || data instanceof Uint8Array;
    if (!bytes) throw invalid("picture.data", "a Uint8ClampedArray", data);
    if (data.length !== 4 * width * height) {
      throw invalid("picture.data", `${4 * width * height} bytes for ${width}x${height} pixels`, data.length);
    }
    return { data, width, height };
  }
  if (isElement(picture, "HTMLImageElement")) {
    await picture.decode().catch((error: unknown) => {
      throw invalid("picture", `an image that can be shown: ${String(error)}`, picture);
    });
  }
  return drawn(picture);
}

const A_PICTURE = "a picture: a Blob or File, an ImageBitmap, ImageData, an <img>, <video> or canvas";

async function decoded(picture: Blob): Promise<ImageBitmap> {
  try {
    return await createImageBitmap(picture);
  } catch {
    const kind = kindOf(new Uint8Array(await picture.slice(0, 64).arrayBuffer()));
    throw invalid("picture", "a file that this browser decodes as a picture", kind ?? (picture.type || picture));
  }
}

/** The pixels of what can be drawn on a canvas. */
function drawn(picture: Drawn): Pixels {
  const [width, height] = size(picture);
  if (width === undefined || height === undefined) throw invalid("picture", A_PICTURE, picture);
  if (!(width > 0 && height > 0)) throw invalid("picture", "one with pixels", `${width}x${height}`);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  try {
    context?.drawImage(picture, 0, 0, width, height);
    const data = context?.getImageData(0, 0, width, height).data;
    if (data) return { data, width, height };
  } catch (error) {
    throw invalid("picture", `one whose pixels can be read: ${String(error)}`, picture);
  }
  throw invalid("picture", "one that fits on a canvas", `${width}x${height}`);
}

type Drawn = Exclude<Picture, Blob | Pixels | ImageData>;

/** Width and height in pixels, and not in those of the page. */
function size(picture: Drawn): [width: number | undefined, height: number | undefined] {
  if (isElement(picture, "HTMLImageElement")) return [picture.naturalWidth, picture.naturalHeight];
  if (isElement(picture, "HTMLVideoElement")) return [picture.videoWidth, picture.videoHeight];
  return [picture.width, picture.height];
}

type Elements = { HTMLImageElement: HTMLImageElement; HTMLVideoElement: HTMLVideoElement };

/** Whether it is such an element. Workers have no elements at all. */
function isElement<Name extends keyof Elements>(value: object, name: Name): value is Elements[Name] {
  return name in globalThis && value instanceof globalThis[name];
}
