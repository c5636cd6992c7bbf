/**
 * The service worker: keeps the page's files, so that it works offline once loaded. Models are kept by the page
 * itself when they are first used (offline.ts). A new version waits until no page of the old one is open.
 */
declare const self: ServiceWorkerGlobalScope;
/** Addresses relative to this file, put in by the build (vite.config.ts); a hash of their contents. */
declare const FILES: string[];
declare const VERSION: string;

const HOME = self.registration.scope;
const ADDRESSES = FILES.map((file) => new URL(file, HOME).href);
// One host may serve several of this page, in different folders.
const PAGE = `dsconv-page ${HOME} `;
const NAME = PAGE + VERSION;

self.addEventListener("install", (event) => {
  const keep = async () => {
    const cache = await caches.open(NAME);
    // Past the browser's own cache: what is kept must be of one version.
    await cache.addAll(ADDRESSES.map((address) => new Request(address, { cache: "reload" })));
  };
  event.waitUntil(keep());
});

self.addEventListener("activate", (event) => {
  const clear = async () => {
    const names = await caches.keys();
    const old = names.filter((name) => name.startsWith(PAGE) && name !== NAME);
    await Promise.all(old.map((name) => caches.delete(name)));
    await self.clients.claim();
  };
  event.waitUntil(clear());
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const address = request.mode === "navigate" ? HOME : request.url;
  // What else there is, models above all, is the page's own matter.
  if (request.method !== "GET" || !ADDRESSES.includes(address)) return;
  const answer = async () => (await (await caches.open(NAME)).match(address)) ?? fetch(request);
  event.respondWith(answer());
});

export {};
