// The picture, its likeliest classes, and what the page is doing.
import type { Classification } from "dsconv";
import { byId, make } from "./dom.js";
import type { Picture } from "./session.js";
import { milliseconds, percent } from "./words.js";

const panel = byId("answer");
const status = byId("answer-status");
const first = byId("first");
const list = byId("classes");
const frame = byId("frame");
const image = byId<HTMLImageElement>("picture");
const live = byId("live");
/** What the list is, while nothing is awaited. */
let told = "No answer";

/** Shows a picture, by an object URL that ends with it. */
export function showPicture({ url, alt }: { url: string; alt: string }): void {
  URL.revokeObjectURL(image.src);
  image.src = url;
  image.alt = alt;
  image.hidden = false;
}

export function showWorking(what: string): void {
  panel.setAttribute("aria-busy", "true");
  frame.dataset.state = "working";
  status.textContent = what;
}

/** The five likeliest classes, with bars from nothing to certainty. */
export function showAnswer(picture: Picture, { classes: all, milliseconds: time }: Classification): void {
  told = `${picture.name}, most likely`;
  settle();
  const classes = all.slice(0, 5);
  const [best] = classes;
  first.textContent = best?.label ?? "nothing";
  list.replaceChildren(
    ...classes.map(({ label, score }) => {
      const bar = make("span", { className: "bar", "aria-hidden": "true" }, make("span", {}));
      bar.style.setProperty("--share", String(score));
      return make(
        "li",
        {},
        make("span", { className: "label" }, label),
        make("span", { className: "score" }, percent(score)),
        bar,
      );
    }),
  );
  if (best) live.textContent = `${picture.name}: ${best.label}, ${percent(best.score)}, in ${milliseconds(time)}`;
}

/** There is no answer: not for this picture, or not from this network. */
export function clearAnswer(): void {
  list.replaceChildren();
  first.textContent = "\u00a0";
  told = "No answer";
  settle();
}

/** Nothing is awaited any more: what was told last holds. */
export function settle(): void {
  panel.setAttribute("aria-busy", "false");
  delete frame.dataset.state;
  status.textContent = told;
}
