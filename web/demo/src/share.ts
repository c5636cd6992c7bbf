// The address as a link to what is seen: `#picture=coffee&bits=3`.
import { byId } from "./dom.js";

/** What an address asks for. */
export interface View {
  readonly picture: string | undefined;
  readonly bits: number | undefined;
}

export function viewOf(hash: string): View {
  const asked = new URLSearchParams(hash.replace(/^#/, ""));
  return { picture: asked.get("picture") ?? undefined, bits: Number(asked.get("bits")) || undefined };
}

/** Puts a view into the address: what is one's own is nobody else's to see, and has no link. */
export function showView({ picture, bits }: View): void {
  const asked = new URLSearchParams();
  if (picture) asked.set("picture", picture);
  if (bits) asked.set("bits", String(bits));
  history.replaceState(history.state, "", `#${asked}`);
}

/** A button that copies the view's address, and says what of the visitor's own the link is without. */
export function shareButton(button: HTMLButtonElement, view: () => View, ownParts: () => string[]): void {
  const name = button.textContent;
  const live = byId("live");
  button.addEventListener("click", async () => {
    showView(view());
    const own = ownParts();
    const without = own.length > 0 ? `, without your ${own.join(" and ")}` : "";
    let told = `Copied${without}`;
    try {
      await navigator.clipboard.writeText(location.href);
    } catch {
      told = `It is in the address bar${without}`;
    }
    button.textContent = told;
    live.textContent = told;
    setTimeout(() => (button.textContent = name), 2000);
  });
}
