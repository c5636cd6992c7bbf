// The same picture by the same network in every width, side by side.
import type { Class } from "dsconv";
import { byId, make } from "./dom.js";
import { MODELS } from "./samples.js";
import { bytes, milliseconds, percent } from "./words.js";

/** What a network says of the picture. */
export interface Compared {
  /** `f32`, or the bits. */
  readonly name: string;
  /** The likeliest first. */
  readonly classes: readonly Class[];
  /** Bytes of its file. */
  readonly size: number;
  /** How long it took, where it ran here. */
  readonly time: number | undefined;
}

const place = byId("comparison");
const note = byId("compare-note");
const cost = MODELS.reduce((sum, { size }) => sum + size, 0);
const unasked =
  "Each width on the picture above, and f32’s recorded answer if it is a sample. " +
  `This fetches up to ${bytes(cost)}, without what is here already.`;
note.textContent = unasked;
/** As many classes have a colour. */
const SHOWN = 5;

/** The share of the reference's scores, of its likeliest classes, that an answer gives to the same ones. */
export function agreement(reference: readonly Class[], answer: readonly Class[]): number {
  const scores = new Map(answer.map(({ index, score }) => [index, score]));
  const likeliest = reference.slice(0, SHOWN);
  const common = likeliest.reduce((sum, { index, score }) => sum + Math.min(score, scores.get(index) ?? 0), 0);
  return common / Math.max(likeliest.reduce((sum, { score }) => sum + score, 0), Number.MIN_VALUE);
}

/** Shows what is there so far, of how many: the first is what the others are compared with. */
export function showComparison(all: readonly Compared[], of: number, software: boolean): void {
  const [reference] = all;
  if (!reference) return;
  const likeliest = reference.classes.slice(0, SHOWN);
  const key = make(
    "p",
    { className: "key classes-key" },
    ...likeliest.map(({ label }, at) => make("span", { className: `class-${at}` }, label)),
    make("span", { className: "class-rest" }, "all else"),
  );
  const rows = all.map(({ name, classes, size, time }) => {
    const scores = new Map(classes.map(({ index, score }) => [index, score]));
    const bar = make("span", { className: "stack", "aria-hidden": "true" });
    for (const [at, { index }] of likeliest.entries()) {
      const part = make("span", { className: `class-${at}` });
      part.style.setProperty("--share", String(scores.get(index) ?? 0));
      bar.append(part);
    }
    const [best] = classes;
    const share = Math.round(100 * agreement(reference.classes, classes));
    return make(
      "tr",
      {},
      make("th", { scope: "row" }, name),
      make("td", { className: "said" }, `${best?.label ?? "nothing"} ${percent(best?.score ?? 0)}`, bar),
      make("td", {}, reference.name === name ? "–" : `${share}%`),
      make("td", {}, bytes(size)),
      make("td", {}, time === undefined ? "recorded" : milliseconds(time)),
    );
  });
  const columns = ["Bits", "Answer", `As ${reference.name}`, "File", "Time"];
  const head = make("tr", {}, ...columns.map((column) => make("th", { scope: "col" }, column)));
  const parts = [make("thead", {}, head), make("tbody", {}, ...rows)];
  place.replaceChildren(key, make("table", { "aria-labelledby": "compare-title" }, ...parts));
  note.textContent =
    all.length < of
      ? `${all.length} of ${of} are there.`
      : `“As ${reference.name}”: how much of ${reference.name}’s score for its five likeliest classes this network ` +
        "gives to the same classes." +
        (reference.time === undefined ? " The answer in f32 was recorded: that file takes too long to fetch." : "") +
        (software ? " Times are of a software device, compiling included." : "");
}

/** Takes the comparison away: another picture is there. */
export function clearComparison(): void {
  place.replaceChildren();
  note.textContent = unasked;
}
