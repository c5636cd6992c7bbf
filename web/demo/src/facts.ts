// The device, the memory of the weights, and the time of a run.
import type { Device, Network } from "dsconv";
import { byId, make } from "./dom.js";
import { bytes, milliseconds, times } from "./words.js";

const memory = byId("memory");
const smaller = byId("smaller");
const ratioNote = byId("ratio-note");
const memoryNote = byId("memory-note");
const time = byId("milliseconds");
const timeNote = byId("time-note");

/** What the device is called. */
export function deviceName({ kind, name, software }: Device): string {
  if (kind === "cpu") return "On the processor: this browser has no WebGPU";
  return `${name}${software ? ", in software" : ""}`;
}

/** Bits of an integer weight, in the mean of all; none where all are floats. */
export function bitsOf(network: Network): number | undefined {
  const packed = network.layers.filter(({ bits }) => bits !== null);
  const weights = packed.reduce((sum, layer) => sum + layer.floatBytes / 4, 0);
  const all = packed.reduce((sum, layer) => sum + (layer.bits! * layer.floatBytes) / 4, 0);
  return weights ? Math.round((10 * all) / weights) / 10 : undefined;
}

/** What the weights take, beside what they would take in floats. */
export function showMemory(network: Network, device: Device | undefined): void {
  const floats = network.layers.reduce((sum, layer) => sum + layer.floatBytes, 0);
  const now = network.layers.reduce((sum, layer) => sum + layer.bytes, 0);
  const bits = bitsOf(network);
  const kept = network.layers.filter(({ bits }) => bits === null);
  smaller.textContent = floats > now ? `${times(floats, now)} smaller` : bytes(now);
  const what = bits === undefined ? "of weights, all f32" : "of weights";
  ratioNote.textContent = floats > now ? `than in f32: ${bytes(floats)} of weights are ${bytes(now)}` : what;
  const row = (term: string, count: number, kind: string) => {
    const bar = make("span", { className: `bar ${kind}`, "aria-hidden": "true" }, make("span", {}));
    bar.style.setProperty("--share", String(count / Math.max(floats, now, 1)));
    return [make("dt", {}, term), make("dd", {}, bar, make("strong", {}, bytes(count)))];
  };
  const name = bits === undefined ? "now" : `${bits} bits`;
  memory.replaceChildren(...row("f32", floats, "floats"), ...row(name, now, "integers"));
  const { total, weights, constants, tensors, parameters } = network.memoryUse;
  const floatLayers = `${kept.length} of ${network.layers.length} layers stay floats.`;
  memoryNote.textContent =
    device?.kind === "cpu"
      ? `Sizes are of the file: on the processor, each integer takes a byte. ${floatLayers}`
      : `On the device now: ${bytes(total)}, of which ${bytes(weights + constants + parameters)} are weights and ` +
        `constants and ${bytes(tensors)} the tensors between layers. ${floatLayers}`;
}

/** How long a picture took, and on what. */
export function showTime(taken: number, device: Device, first: boolean): void {
  time.textContent = milliseconds(taken);
  if (device.kind === "cpu") {
    timeNote.textContent =
      "From pixels to scores, on the processor and on one thread, in the plain loops that kernels are checked " +
      "against: this is not a GPU’s time.";
    return;
  }
  const notes = [
    device.software
      ? "From pixels to scores, on a software device: a processor plays the GPU here, so this is not a GPU’s time."
      : "From pixels to scores, on your GPU.",
    first ? "A network’s first picture also waits until its kernels are compiled; the next one does not." : "",
  ];
  timeNote.textContent = notes.filter(Boolean).join(" ");
}
