// Helpers of the tests of the page (web/demo), which is served from a folder, as on a static host.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { TYPES, launch } from "./launch.mjs";
import { classifier, large, unknown } from "./onnx.mjs";

export const web = fileURLToPath(new URL("..", import.meta.url));
export const root = join(web, "..");
const FOLDER = "/some/folder/";
/** SwiftShader compiles a network's kernels on as few cores as there are. */
export const SLOW = 180_000;

let browser;
let server;
let address;
/** A folder of files for the page. */
export let files;

async function answer(request, response) {
  const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
  try {
    if (!path.startsWith(FOLDER)) throw new Error("outside of the folder");
    const file = path.endsWith("/") ? "index.html" : path.slice(FOLDER.length);
    const body = await readFile(join(web, "demo/dist", file));
    const type = TYPES[extname(file)] ?? "application/octet-stream";
    response.writeHead(200, { "content-type": type, "content-length": body.length }).end(body);
  } catch {
    response.writeHead(404).end();
  }
}

/** Stops the server while `use` runs. */
export async function offline(use) {
  const { port } = server.address();
  server.close();
  server.closeAllConnections();
  try {
    await use();
  } finally {
    await listen(port);
  }
}

async function listen(port = 0) {
  server = createServer(answer).listen(port, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  address = `http://localhost:${server.address().port}${FOLDER}`;
}

before(async () => {
  files = await mkdtemp(join(tmpdir(), "dsconv-page-"));
  await writeFile(join(files, "classifier.onnx"), classifier());
  await writeFile(join(files, "large.onnx"), large());
  await writeFile(join(files, "unknown.onnx"), unknown());
  await writeFile(join(files, "broken.onnx"), "this is no network");
  await writeFile(join(files, "broken.safetensors"), "this is no network");
  await writeFile(join(files, "broken.jpg"), "this is no picture");
  await listen();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  server?.close();
  await rm(files, { recursive: true, force: true });
});

/** What the command says. */
export async function native(...options) {
  const command = join(root, "target/release/dsconv");
  return (await promisify(execFile)(command, options, { cwd: root, maxBuffer: 2 ** 26 })).stdout;
}

/** The command's five likeliest classes of pictures. */
export const nativeTops = async (model, ...pictures) =>
  JSON.parse(await native("classify", model, ...pictures, "--json")).map(({ top }) => top);

/**
 * A fresh page in a browser profile of its own, used by `use`. Whatever it throws or logs as an error fails the test,
 * unless it is `expected`.
 */
export async function onPage(use, { of = browser, expected, prepare, hash = "" } = {}) {
  const context = await of.createBrowserContext();
  const page = await context.newPage();
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    if (["error", "warn"].includes(message.type())) problems.push(message.text());
  });
  page.setDefaultTimeout(SLOW);
  try {
    await page.setViewport({ width: 1440, height: 900 });
    await prepare?.(page);
    await page.goto(address + hash);
    await use(page);
    assert.deepEqual(problems.filter((problem) => !expected?.test(problem)), []);
  } finally {
    await context.close();
  }
}

/** The page's answer once it says that it is done with that picture. */
export async function answerFor(page, name) {
  await page.waitForFunction(
    (name) =>
      document.querySelector("#answer").getAttribute("aria-busy") === "false" &&
      document.querySelector("#answer-status").textContent.startsWith(`${name},`),
    {},
    name,
  );
  return page.$$eval("#classes li", (items) =>
    items.map((item) => ({
      label: item.querySelector(".label").textContent,
      percent: item.querySelector(".score").textContent,
    })),
  );
}

/**
 * The page shows what the command says of that file; and its scores, of the pixels that the browser makes of it: no
 * two JPEG decoders agree on those.
 */
export async function assertSame(page, shown, model, picture) {
  const png = await page.$eval("#picture", async (image) => {
    await image.decode();
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
    canvas.getContext("2d").drawImage(image, 0, 0);
    return Array.from(new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer()));
  });
  const pixels = join(files, "pixels.png");
  await writeFile(pixels, Uint8Array.from(png));
  const [ofFile, top] = await nativeTops(model, join("cli/pictures", picture), pixels);
  const labels = (classes) => classes.map(({ label }) => label);
  assert.deepEqual(labels(shown), labels(ofFile));
  assert.deepEqual(labels(shown), labels(top));
  for (const [index, { percent }] of shown.entries()) {
    const expected = 100 * top[index].score;
    if (percent === "<1%") assert.ok(expected < 1.01, `${percent}, expected ${expected}`);
    // Rounded to whole ones, of scores within 1e-4.
    else assert.ok(Math.abs(Number.parseInt(percent, 10) - expected) <= 0.51, `${percent}, expected ${expected}`);
  }
}

export const textOf = (page, selector) => page.$eval(selector, (element) => element.textContent);
export const shown = (page, selector) => page.waitForSelector(`${selector}:not([hidden])`);
export const choose = async (page, selector, path) => (await page.$(selector)).uploadFile(path);
export const modelOf = (bits) =>
  `${bits === 4 ? "cli/models" : "web/demo/models"}/efficientnet-lite0-i${bits}.safetensors`;

/** Quantises a file that lies in `folder` by the form, as far as the button. */
export async function quantise(page, path, { bits = 4, block = 32 } = {}) {
  await choose(page, "#onnx", path);
  await page.$eval(
    "#own-bits",
    (range, bits) => {
      range.value = bits;
      range.dispatchEvent(new Event("input"));
    },
    bits,
  );
  await page.select("#own-block", String(block));
  await page.waitForSelector("#own-start:not(:disabled)");
  await page.click("#own-start");
}
