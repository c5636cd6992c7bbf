// The address as a link to what is seen: `#picture=coffee&bits=3`.

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

/** A button that copies the address, and says so. */
export function shareButton(button: HTMLButtonElement): void {
  const name = button.textContent;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      button.textContent = "Copied";
    } catch {
      button.textContent = "It is in the address bar";
    }
    setTimeout(() => (button.textContent = name), 2000);
  });
}
