// Short ways to the page's elements.
/** The element of that id, which index.html has. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element as T;
}

/** An element with properties (or attributes, where their names have a dash) and children. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<Omit<HTMLElementTagNameMap[K], "style">> & Record<string, unknown> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) element.setAttribute(name, String(value));
    else Reflect.set(element, name, value);
  }
  element.append(...children);
  return element;
}

/** Shows a text as a notice, with a button where there is something to do; hides it without a text. */
export function notify(notice: HTMLElement, text?: string, action?: { name: string; run: () => void }): void {
  notice.hidden = text === undefined;
  notice.replaceChildren();
  if (text === undefined) return;
  notice.append(make("p", {}, text));
  if (action) notice.append(make("button", { type: "button", className: "quiet", onclick: action.run }, action.name));
  // It may be told far from where it shows.
  notice.scrollIntoView({ block: "nearest" });
}

/** A ramp in as many steps as integers of that width have values. */
export function staircase(bits: number): SVGElement {
  const [width, height, steps] = [100, 30, Math.round(2 ** bits)];
  const corners = Array.from({ length: steps }, (_, step) => {
    const top = height * (1 - (step + 1) / steps);
    return `V${top.toFixed(2)}H${((width * (step + 1)) / steps).toFixed(2)}`;
  });
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", `M0 ${height}${corners.join("")}V${height}Z`);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "steps");
  svg.setAttribute("aria-hidden", "true");
  svg.append(path);
  return svg;
}
