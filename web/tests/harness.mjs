// A real browser, a server for it, and functions that are called in its pages.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { after, before } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { TYPES, enable, features, launch, withoutWebGpu } from "./launch.mjs";

export const web = fileURLToPath(new URL("..", import.meta.url));
export const root = join(web, "..");
export { enable, features };
/** The folder of the kernels' golden cases. */
export const golden = join(root, "tests/golden");

let browser;
let server;
let address;

/** What the server has, by the first part of the path. */
const FOLDERS = {
  dist: join(web, "dist"),
  page: join(web, "tests/page"),
  golden,
  models: join(root, "cli/models"),
  pictures: join(root, "cli/pictures"),
  data: join(root, "net/tests/data"),
};
const PAGE = `<!doctype html><link rel="icon" href="data:,"><title>dsconv</title>
<script type="importmap">{ "imports": { "dsconv": "/dist/index.js" } }</script>`;

/** Further paths and what is there: a text, or a function that answers. */
export const routes = new Map();

async function answer(request, response) {
  const { pathname } = new URL(request.url, "http://localhost");
  const route = routes.get(pathname);
  if (typeof route === "function") return route(request, response);
  const [, folder, ...path] = normalize(pathname).split("/");
  try {
    const body = folder === "" ? PAGE : (route ?? (await readFile(join(FOLDERS[folder], ...path))));
    const type = folder === "" ? "text/html" : (TYPES[extname(pathname)] ?? "application/octet-stream");
    response.writeHead(200, { "content-type": type, "content-length": Buffer.byteLength(body) });
    response.end(body);
  } catch {
    response.writeHead(404).end();
  }
}

/** Answers with some bytes every few milliseconds, until the client has enough. */
routes.set("/trickle", async (_, response) => {
  response.writeHead(200, { "content-type": "application/octet-stream" });
  while (!response.destroyed) {
    response.write(Buffer.alloc(1000));
    await sleep(10);
  }
  closed += 1;
});
let closed = 0;
/** How many clients of /trickle have gone. */
export const trickled = () => closed;

/** A browser whose WebGPU is switched off. */
export const launchWithout = () => launch(withoutWebGpu);

before(async () => {
  server = createServer(answer).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  address = `http://localhost:${server.address().port}/`;
  browser = await launch();
});

after(async () => {
  await browser?.close();
  server?.close();
});

/** An empty page. */
export async function openPage(of = browser) {
  const page = await of.newPage();
  await page.goto(address);
  return page;
}

/**
 * What calls functions of a module of page/, each in a page of its own. `script` runs before it; what the page throws
 * or logs as an error fails the test, unless it is `expected`.
 */
export const pagesOf = (path) => async (call, { argument, script, expected, of } = {}) => {
  const page = await openPage(of);
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    if (["error", "warn"].includes(message.type())) problems.push(message.text());
  });
  try {
    // Before the package is loaded, and in the page's own world.
    if (script) await page.evaluate(`void (${script})`);
    const run = async (path, call, argument) => (await import(path))[call](argument);
    const given = [path, call, argument].map((value) => JSON.stringify(value) ?? "undefined");
    const result = await page.evaluate(`(${run})(${given.join(", ")})`);
    assert.deepEqual(problems.filter((problem) => !expected?.test(problem)), []);
    return result;
  } finally {
    await page.close();
  }
};

/** Takes the language feature away: its built-ins must be gone, or declared by the shader itself. */
export const noPackedDot = () => {
  const { get } = Object.getOwnPropertyDescriptor(GPU.prototype, "wgslLanguageFeatures");
  Object.defineProperty(GPU.prototype, "wgslLanguageFeatures", {
    get() {
      return new Set([...get.call(this)].filter((feature) => feature !== "packed_4x8_integer_dot_product"));
    },
  });
  const { createShaderModule } = GPUDevice.prototype;
  GPUDevice.prototype.createShaderModule = function (descriptor) {
    for (const [, builtIn] of descriptor.code.matchAll(/\b(dot4[IU]8Packed|(?:un)?pack4x[IU]8(?:Clamp)?)\(/g)) {
      if (!descriptor.code.includes(`fn ${builtIn}(`)) throw new Error(`${builtIn} is used without the feature`);
    }
    return createShaderModule.call(this, descriptor);
  };
};

/** An adapter without a feature, which refuses it as a real one would. */
export const withoutFeature = (removed) => {
  const { get } = Object.getOwnPropertyDescriptor(GPUAdapter.prototype, "features");
  Object.defineProperty(GPUAdapter.prototype, "features", {
    get() {
      return new Set([...get.call(this)].filter((feature) => feature !== removed));
    },
  });
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = function (descriptor) {
    if ([...(descriptor?.requiredFeatures ?? [])].includes(removed)) {
      return Promise.reject(new TypeError(`the adapter has no ${removed}`));
    }
    return requestDevice.call(this, descriptor);
  };
};
