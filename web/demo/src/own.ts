// Quantising a network of the visitor's own.
import { quantize, type Quantized, type QuantizeOptions } from "dsconv";
import { byId, make, notify, staircase } from "./dom.js";
import { bytes, inWords, times } from "./words.js";

/** A model file made here, or brought. */
export interface OwnModel {
  readonly name: string;
  readonly bits: number | undefined;
  readonly file: File | Uint8Array;
  /** Bytes of it. */
  readonly size: number;
}

const form = byId<HTMLFormElement>("quantise");
const file = byId<HTMLInputElement>("onnx");
const name = byId("onnx-name");
const note = byId("onnx-note");
const options = byId<HTMLFieldSetElement>("options");
const bits = byId<HTMLInputElement>("own-bits");
const block = byId<HTMLSelectElement>("own-block");
const pictures = byId<HTMLInputElement>("own-pictures");
const start = byId<HTMLButtonElement>("own-start");
const cancel = byId<HTMLButtonElement>("own-cancel");
const progress = byId("own-progress");
const bar = byId<HTMLProgressElement>("own-bar");
const step = byId("own-step");
const notice = byId("own-notice");
const result = byId("result");

let chosen: File | undefined;
let running: AbortController | undefined;
let download: string | undefined;

/** Takes an ONNX file for the form, as if it had been picked in it. */
export function take(onnx: File): void {
  if (running) {
    notify(notice, `${onnx.name} has to wait until ${chosen?.name} is done, or cancelled.`);
    return;
  }
  chosen = onnx;
  name.textContent = onnx.name;
  note.textContent = bytes(onnx.size);
  byId("well").dataset.state = "full";
  start.disabled = false;
  notify(notice);
}

function working(on: boolean): void {
  options.disabled = on;
  file.disabled = on;
  start.hidden = on;
  cancel.hidden = !on;
  progress.hidden = !on;
  bar.removeAttribute("value");
  step.textContent = on ? "Reading the network" : "";
  (on ? cancel : start).focus();
}

/** Decodes what was picked for calibration. */
async function decoded(files: FileList | null): Promise<ImageBitmap[]> {
  return Promise.all([...(files ?? [])].map(async (picture) => {
    try {
      return await createImageBitmap(picture);
    } catch {
      throw new Error(`${picture.name} is not a picture that this browser can read`);
    }
  }));
}

async function run(onnx: File, use: (model: OwnModel) => void): Promise<void> {
  const abort = new AbortController();
  running = abort;
  notify(notice);
  result.hidden = true;
  working(true);
  try {
    const calibration = await decoded(pictures.files);
    const how: QuantizeOptions = {
      bits: Number(bits.value),
      blockSize: Number(block.value),
      ...(calibration.length > 0 ? { calibration } : {}),
      signal: abort.signal,
      onProgress(done, total, layer) {
        bar.max = total;
        bar.value = done;
        step.textContent = `${done} of ${total}: ${layer}`;
      },
    };
    const made = await quantize(await onnx.arrayBuffer(), how);
    const title = `${onnx.name.replace(/\.onnx$/i, "")}-i${bits.value}`;
    show(made, { name: title, bits: Number(bits.value), file: made.model, size: made.model.length }, use);
  } catch (error) {
    notify(notice, abort.signal.aborted ? "Cancelled." : `${onnx.name}: ${inWords(error)}`);
  } finally {
    running = undefined;
    working(false);
  }
}

/** The report, and what to do with the model. */
function show({ layers, model: made }: Quantized, model: OwnModel, use: (model: OwnModel) => void): void {
  const floats = layers.reduce((sum, layer) => sum + layer.floatBytes, 0);
  const now = layers.reduce((sum, layer) => sum + layer.bytes, 0);
  if (download) URL.revokeObjectURL(download);
  download = URL.createObjectURL(new Blob([made], { type: "application/octet-stream" }));
  const columns = ["Layer", "Weights", "Bits", "f32", "Now", "Smaller", "SNR dB"];
  const rows = layers.map((layer) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, layer.name),
      ...[
        layer.shape.join("×"),
        layer.bits?.toString() ?? "f32",
        bytes(layer.floatBytes),
        bytes(layer.bytes),
        times(layer.floatBytes, layer.bytes),
        layer.weightSnr?.toFixed(1) ?? "",
      ].map((text) => make("td", {}, text)),
    ),
  );
  const table = make(
    "table",
    {},
    make("thead", {}, make("tr", {}, ...columns.map((column) => make("th", { scope: "col" }, column)))),
    make("tbody", {}, ...rows),
  );
  const smaller = make("span", {}, ` ${times(floats, now)} smaller`);
  const title = make("h3", { tabIndex: -1 }, `${bytes(floats)} became ${bytes(now)}`, smaller);
  result.replaceChildren(
    title,
    make(
      "div",
      { className: "actions" },
      make(
        "a",
        { className: "main", href: download, download: `${model.name}.safetensors` },
        `Download ${bytes(model.size)}`,
      ),
      make("button", { type: "button", className: "quiet", onclick: () => use(model) }, "Use it on the picture above"),
    ),
    make(
      "div",
      { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Layers of the quantised network" },
      table,
    ),
  );
  result.hidden = false;
  queueMicrotask(() => title.focus());
}

/** Wires the form; `use` is called with a network that is to run at once. */
export function quantiseForm(use: (model: OwnModel) => void): void {
  const levels = () => {
    byId("own-bits-value").textContent = bits.value;
    byId("own-levels-note").textContent = `${2 ** Number(bits.value)} levels`;
    byId("own-ramp").replaceChildren(staircase(Number(bits.value)));
  };
  bits.addEventListener("input", levels);
  levels();
  file.addEventListener("change", () => {
    const [onnx] = file.files ?? [];
    if (onnx) take(onnx);
    // The same file can be picked again.
    file.value = "";
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (chosen && !running) void run(chosen, use);
  });
  cancel.addEventListener("click", () => running?.abort());
}
