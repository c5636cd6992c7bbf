/**
 * The service worker: keeps the page's files, so that it works offline once loaded. Models are kept by the page
 * itself when they are first used (offline.ts). A new version waits until no page of the old one is open.
 */
declare const self: ServiceWorkerGlobalScope;
/** Addresses relative to this file, put in by the build (vite.config.ts); a hash of their contents. */
declare const FILES: string[];
declare const VERSION: string;

const NAME = `dsconv-page-${VERSION}`;

self.addEventListener("install", (event) => {
  const keep = async () => {
    const cache = await caches.open(NAME);
    // Past the browser's own cache: what is kept must be of one version.
    await cache.addAll(FILES.map((file) => new Request(file, { cache: "reload" })));
  };
  event.waitUntil(keep());
});

self.addEventListener("activate", (event) => {
  const clear = async () => {
    const names = await caches.keys();
    const old = names.filter((name) => name.startsWith("dsconv-page-") && name !== NAME);
    await Promise.all(old.map((name) => caches.delete(name)));
    await self.clients.claim();
  };
  event.waitUntil(clear());
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || !request.url.startsWith(self.registration.scope)) return;
  const answer = async () => {
    const cache = await caches.open(NAME);
    return (await cache.match(request.mode === "navigate" ? "./" : request)) ?? fetch(request);
  };
  event.respondWith(answer());
});

export {};
