// The chart of the layers' times.
import type { Network, Profile, Step } from "dsconv";
import { byId, make } from "./dom.js";
import { milliseconds } from "./words.js";

const chart = byId("chart");
const note = byId("layers-note");
const unmeasured = note.textContent;

/** A bar for each step of the network: integers in colour, floats in grey. */
export function showProfile({ steps, clock }: Profile, network: Network, software: boolean): void {
  const bits = new Map(network.layers.map((layer) => [layer.name, layer.bits]));
  const integers = (step: Step) => (bits.get(step.name) ?? null) !== null;
  const longest = Math.max(...steps.map((step) => step.milliseconds), Number.MIN_VALUE);
  const total = steps.reduce((sum, step) => sum + step.milliseconds, 0);
  const inIntegers = steps.filter(integers).reduce((sum, step) => sum + step.milliseconds, 0);

  const readout = make("p", { className: "readout", "aria-hidden": "true" });
  const say = (step?: Step) => {
    readout.textContent = step
      ? `${step.name} · ${step.kernel} · ${milliseconds(step.milliseconds)}`
      : `${steps.length} steps, ${milliseconds(total)} in all`;
  };
  say();
  const bars = steps.map((step) => {
    const bar = make("span", { className: integers(step) ? "integers" : "floats" });
    bar.style.setProperty("--share", String(step.milliseconds / longest));
    bar.addEventListener("pointerenter", () => say(step));
    return bar;
  });
  const plot = make("div", { className: "plot", role: "img" }, ...bars);
  plot.setAttribute(
    "aria-label",
    `Bar chart of ${steps.length} steps, ${milliseconds(total)} in all, ` +
    `${milliseconds(inIntegers)} of it in layers with ` +
      "integer weights; the numbers are in the table below.",
  );
  plot.addEventListener("pointerleave", () => say());

  const key = make(
    "p",
    { className: "key" },
    make("span", { className: "integers" }, `integer weights ${milliseconds(inIntegers)}`),
    make("span", { className: "floats" }, `float weights and the rest ${milliseconds(total - inIntegers)}`),
  );
  const rows = steps.map((step) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, step.name),
      make("td", {}, step.kernel),
      make("td", {}, bits.get(step.name)?.toString() ?? "f32"),
      make("td", {}, step.milliseconds.toFixed(3)),
    ),
  );
  const columns = ["Step", "Kernel", "Bits", "ms"].map((name) => make("th", { scope: "col" }, name));
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...columns)), make("tbody", {}, ...rows));
  const numbers = make(
    "details",
    {},
    make("summary", {}, "The numbers"),
    make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Time of each step" }, table),
  );
  chart.replaceChildren(
    make(
      "div",
      { className: "axis", "aria-hidden": "true" },
      make("span", {}, milliseconds(longest)),
      make("span", {}, "0"),
    ),
    plot,
    make("div", { className: "under" }, key, readout),
    numbers,
  );
  note.textContent =
    "From the picture on the left to the answer on the right. " +
    (clock === "gpu"
      ? "Timed by the GPU’s own clock."
      : "Timed step by step by this computer’s clock, the way to the device and back included.") +
    (software ? " A software device: not a GPU’s times." : "");
}

/** Takes the chart away: another network is there. */
export function clearProfile(): void {
  chart.replaceChildren();
  note.textContent = unmeasured;
}
