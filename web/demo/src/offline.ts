// Keeping the page and the models for use without a connection.
/** Models that were used, by address: their names carry a hash of their contents. */
const MODELS = "dsconv-models";

/** A model from what was kept, else fetched and kept. */
export async function model(url: string, signal: AbortSignal): Promise<Response> {
  // Without a store (a private window, a page that isn't served securely) models are fetched each time.
  const store = await globalThis.caches?.open(MODELS).catch(() => undefined);
  const kept = await store?.match(url);
  if (kept) return kept;
  const response = await fetch(url, { signal });
  if (!response.ok) throw new Error(`The model could not be fetched: the server answered ${response.status}`);
  // A download that is broken off, or a full disk, keeps nothing.
  store?.put(url, response.clone()).catch(() => {});
  return response;
}

/** Forgets models in this page's folder that this version of it doesn't know. */
async function forget(known: readonly string[]): Promise<void> {
  const store = await caches.open(MODELS);
  const home = new URL(".", location.href).href;
  const addresses = new Set(known.map((url) => new URL(url, location.href).href));
  const old = (await store.keys()).filter(({ url }) => url.startsWith(home) && !addresses.has(url));
  await Promise.all(old.map((request) => store.delete(request)));
}

/** Keeps the page for use without a connection, and says so once it is. */
export async function keepPage(known: readonly string[], ready: () => void): Promise<void> {
  if (import.meta.env.DEV || !("serviceWorker" in navigator)) return;
  try {
    await navigator.serviceWorker.register("./service.js");
    await navigator.serviceWorker.ready;
    await forget(known);
    ready();
  } catch {
    // The page works as well, but needs its connection.
  }
}
