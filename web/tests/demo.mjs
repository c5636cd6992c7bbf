// The page (web/demo) as a person uses it. It is served from a folder, as on a static host.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { TYPES, enable, launch, name as browserName, withoutWebGpu } from "./launch.mjs";
import { classifier, large, unknown } from "./onnx.mjs";

const web = fileURLToPath(new URL("..", import.meta.url));
const root = join(web, "..");
const FOLDER = "/some/folder/";
/** SwiftShader compiles a network's kernels on as few cores as there are. */
const SLOW = 180_000;

let browser;
let server;
let address;
let files;

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
async function native(...options) {
  const command = join(root, "target/release/dsconv");
  return (await promisify(execFile)(command, options, { cwd: root, maxBuffer: 2 ** 26 })).stdout;
}

/** The command's five likeliest classes of pictures. */
const nativeTops = async (model, ...pictures) =>
  JSON.parse(await native("classify", model, ...pictures, "--json")).map(({ top }) => top);

/**
 * A fresh page in a browser profile of its own, used by `use`. Whatever it throws or logs as an error fails the test,
 * unless it is `expected`.
 */
async function onPage(use, { of = browser, expected, prepare, width = 1440 } = {}) {
  const context = await of.createBrowserContext();
  const page = await context.newPage();
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    if (["error", "warn"].includes(message.type())) problems.push(message.text());
  });
  page.setDefaultTimeout(SLOW);
  try {
    await page.setViewport({ width, height: 1000 });
    await prepare?.(page);
    await page.goto(address);
    await use(page);
    assert.deepEqual(problems.filter((problem) => !expected?.test(problem)), []);
  } finally {
    await context.close();
  }
}

/** The page's answer once it says that it is done with that picture. */
async function answerFor(page, name) {
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
async function assertSame(page, shown, model, picture) {
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

const textOf = (page, selector) => page.$eval(selector, (element) => element.textContent);
const shown = (page, selector) => page.waitForSelector(`${selector}:not([hidden])`);
const choose = async (page, selector, path) => (await page.$(selector)).uploadFile(path);
const modelOf = (bits) => `${bits === 4 ? "cli/models" : "web/demo/models"}/efficientnet-lite0-i${bits}.safetensors`;

test("a sample is clicked, its layers measured, the bits switched", async (t) => {
  await onPage(async (page) => {
    // The first sample is looked at without a click.
    const cat = await answerFor(page, "Chelsea");
    assert.match(cat[0].label, /cat/);
    await assertSame(page, cat, modelOf(4), "chelsea.jpg");
    // Firefox hides maker and family.
    const device = browserName === "firefox" ? "A GPU that the browser doesn’t name" : "google swiftshader";
    assert.equal(await textOf(page, "#device-name"), `${device}, in software`);
    assert.match(await textOf(page, "#time-note"), /not a GPU’s time/);
    assert.equal(await page.$eval("#picture", ({ naturalWidth }) => naturalWidth > 0), true);
    await page.click("#samples button:nth-child(2)");
    await assertSame(page, await answerFor(page, "Coffee"), modelOf(4), "coffee.jpg");

    await page.click("#measure");
    await page.waitForSelector("#chart .plot");
    const layers = JSON.parse(await native("inspect", modelOf(4), "--json"));
    const bars = await page.$$eval("#chart .plot > span", (bars) => bars.map(({ className }) => className));
    t.diagnostic(`${bars.length} steps of ${layers.length} layers`);
    assert.ok(bars.length >= layers.length);
    assert.equal(
      bars.filter((kind) => kind === "integers").length,
      layers.filter(({ bits }) => bits !== null).length,
    );
    assert.equal(await page.$$eval("#chart tbody tr", (rows) => rows.length), bars.length);

    for (const bits of [8, 5, 3]) {
      await page.click(`#choices label::-p-text(${bits} bits)`);
      await page.waitForFunction((bits) => document.querySelector("#lead-bits").textContent === bits, {}, String(bits));
      await assertSame(page, await answerFor(page, "Coffee"), modelOf(bits), "coffee.jpg");
      const layers = JSON.parse(await native("inspect", modelOf(bits), "--json"));
      const [floats, now] = ["float_bytes", "bytes"].map((key) => layers.reduce((sum, layer) => sum + layer[key], 0));
      assert.equal(await textOf(page, "#smaller"), `${(floats / now).toFixed(1)}× smaller`);
    }
  });
});

test("a picture is picked, another dropped; a broken one is told", async () => {
  await onPage(async (page) => {
    await choose(page, "#pick", join(root, "cli/pictures/rocket.jpg"));
    await assertSame(page, await answerFor(page, "rocket.jpg"), modelOf(4), "rocket.jpg");

    await page.evaluate(async () => {
      const sample = document.querySelector("#samples button:nth-child(3) img");
      const file = new File([await (await fetch(sample.src)).blob()], "dropped.jpg", { type: "image/jpeg" });
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(file);
      const how = { dataTransfer, bubbles: true, cancelable: true };
      const drag = (type) => document.body.dispatchEvent(new DragEvent(type, how));
      for (const type of ["dragenter", "dragover", "drop"]) drag(type);
    });
    await assertSame(page, await answerFor(page, "dropped.jpg"), modelOf(4), "astronaut.jpg");

    await choose(page, "#pick", join(files, "broken.jpg"));
    await shown(page, "#notice");
    assert.match(await textOf(page, "#notice"), /broken\.jpg is not a picture/);
    // The last answer stays, and the page goes on.
    assert.equal(await page.$("#samples [aria-pressed=true]"), null);
    assert.match(await textOf(page, "#answer-status"), /^dropped\.jpg/);
    await page.click("#samples button:nth-child(1)");
    await answerFor(page, "Chelsea");
    assert.equal(await textOf(page, "#samples [aria-pressed=true]"), "Chelsea");
    assert.equal(await page.$eval("#notice", ({ hidden }) => hidden), true);
  });
});

/** Quantises a file that lies in `folder` by the form, as far as the button. */
async function quantise(page, path, { bits = 4, block = 32 } = {}) {
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

/**
 * The file that comes into a folder by the click; in Firefox, what the link holds, for nobody can tell it the folder.
 */
async function downloaded(page, folder, selector) {
  if (browserName === "firefox") {
    const [name, bytes] = await page.$eval(selector, async ({ download, href }) => [
      download,
      Array.from(new Uint8Array(await (await fetch(href)).arrayBuffer())),
    ]);
    await writeFile(join(folder, name), Uint8Array.from(bytes));
    return join(folder, name);
  }
  const session = await page.createCDPSession();
  await session.send("Browser.setDownloadBehavior", {
    behavior: "allow",
    downloadPath: folder,
    browserContextId: page.browserContext().id,
  });
  await page.click(selector);
  for (const end = Date.now() + SLOW; Date.now() < end; ) {
    const [name] = (await readdir(folder)).filter((name) => !name.endsWith(".crdownload"));
    if (name) return join(folder, name);
    await wait(100);
  }
  throw new Error("nothing was downloaded");
}

test("a network is quantised, downloaded, and used at once", async () => {
  await onPage(async (page) => {
    await answerFor(page, "Chelsea");
    await quantise(page, join(root, "net/tests/data/small.onnx"), { bits: 3, block: 8 });
    await shown(page, "#result");
    const folder = await mkdtemp(join(files, "download-"));
    const path = await downloaded(page, folder, "#result a[download]");
    assert.match(path, /small-i3\.safetensors$/);
    // The command reads it, and finds what it makes of that network itself.
    const own = join(files, "native.safetensors");
    await native("quantize", "net/tests/data/small.onnx", own, "--bits", "3", "--block", "8");
    const report = JSON.parse(await native("inspect", path, "--json"));
    assert.deepEqual(report, JSON.parse(await native("inspect", own, "--json")));
    const rows = await page.$$eval("#result tbody tr", (rows) => rows.map((row) => row.cells[0].textContent));
    assert.deepEqual(rows, report.map(({ name }) => name));

    // It is no classifier of pictures, and the page says so.
    await page.click("#result button");
    await shown(page, "#notice");
    assert.match(await textOf(page, "#notice"), /picture/i);

    const pictures = ["chelsea", "coffee"].map((name) => join(root, `cli/pictures/${name}.jpg`));
    await (await page.$("#own-pictures")).uploadFile(...pictures);
    await quantise(page, join(files, "classifier.onnx"), { bits: 6 });
    await page.waitForFunction(() => document.querySelector("#result a")?.download === "classifier-i6.safetensors");
    await page.click("#result button");
    await page.waitForFunction(() => document.querySelector("#lead-bits").textContent === "6");
    const classes = await answerFor(page, "Chelsea");
    assert.equal(classes.length, 5);
    assert.match(classes[0].label, /class \d/);
    // And back.
    await page.click("#choices label::-p-text(4 bits)");
    await page.waitForFunction(() => document.querySelector("#lead-bits").textContent === "4");
    assert.match((await answerFor(page, "Chelsea"))[0].label, /cat/);
  });
});

test("quantising can be cancelled; what is no network, or has unknown nodes, is told", async () => {
  await onPage(async (page) => {
    // SwiftShader keeps the browser from clicks while it compiles.
    await answerFor(page, "Chelsea");
    await quantise(page, join(files, "large.onnx"));
    await shown(page, "#own-cancel");
    await page.click("#own-cancel");
    await shown(page, "#own-notice");
    assert.match(await textOf(page, "#own-notice"), /^Cancelled/);
    assert.equal(await page.$eval("#own-start", ({ hidden, disabled }) => hidden || disabled), false);

    await quantise(page, join(files, "broken.onnx"));
    await page.waitForFunction(() => document.querySelector("#own-notice").textContent.startsWith("broken.onnx: "));
    await quantise(page, join(files, "unknown.onnx"));
    await page.waitForFunction(() => document.querySelector("#own-notice").textContent.startsWith("unknown.onnx: "));
    const told = await textOf(page, "#own-notice");
    assert.match(told, /Frobnicate/);
    assert.match(told, /Defenestrate/);
    assert.equal(await page.$eval("#result", ({ hidden }) => hidden), true);
  });
});

test("without WebGPU the page says what to enable, and quantises", async () => {
  const without = await launch(withoutWebGpu);
  try {
    const use = async (page) => {
      await shown(page, "#notice");
      assert.ok((await textOf(page, "#notice")).includes(enable));
      await quantise(page, join(root, "net/tests/data/small.onnx"));
      await shown(page, "#result");
    };
    // The browser's own word on what is switched off is no defect.
    await onPage(use, { of: without, expected: /WebGPU Context Provider/ });
  } finally {
    await without.close();
  }
});

test("a lost device is told, and started again by a button", async () => {
  const prepare = (page) =>
    page.evaluateOnNewDocument(() => {
      const { requestDevice } = GPUAdapter.prototype;
      GPUAdapter.prototype.requestDevice = async function (descriptor) {
        globalThis.theDevice = await requestDevice.call(this, descriptor);
        return globalThis.theDevice;
      };
    });
  const use = async (page) => {
    const before = await answerFor(page, "Chelsea");
    await page.evaluate(() => globalThis.theDevice.destroy());
    await page.waitForSelector("#notice button");
    assert.match(await textOf(page, "#notice"), /took the GPU away/);
    await page.click("#notice button");
    await page.waitForFunction(() => document.querySelector("#device").dataset.state === "ready");
    assert.deepEqual(await answerFor(page, "Chelsea"), before);
    await page.click("#samples button:nth-child(2)");
    assert.match((await answerFor(page, "Coffee"))[0].label, /espresso/);
  };
  await onPage(use, { prepare });
});

test("works offline once loaded", async () => {
  await onPage(async (page) => {
    const before = await answerFor(page, "Chelsea");
    await page.waitForFunction(() => document.querySelector("#offline").textContent.includes("offline"));
    const { port } = server.address();
    server.close();
    server.closeAllConnections();
    try {
      await page.reload();
      assert.deepEqual(await answerFor(page, "Chelsea"), before);
      await quantise(page, join(root, "net/tests/data/small.onnx"));
      await shown(page, "#result");
      // A model that was never used is not there: the page says so, and stays with the one it has.
      await page.click("#choices label::-p-text(8 bits)");
      await shown(page, "#notice");
      assert.match(await textOf(page, "#notice"), /is there a connection/);
      const chosen = () => document.querySelector("#choices :checked").closest("label").textContent === "4 bits";
      await page.waitForFunction(chosen);
    } finally {
      await listen(port);
    }
    // What the browser itself says of a server that is gone.
  }, { expected: /ERR_CONNECTION_REFUSED/ });
});

test("everything can be done from the keyboard", async () => {
  await onPage(async (page) => {
    await answerFor(page, "Chelsea");
    /** Tabs on until the element that has the focus, or lies next to it, matches. */
    const tabTo = async (selector) => {
      for (let presses = 0; presses < 60; presses++) {
        await page.keyboard.press("Tab");
        if (await page.evaluate((selector) => document.activeElement.matches(selector), selector)) return;
      }
      throw new Error(`the keyboard does not come to ${selector}`);
    };
    await tabTo(".skip");
    await tabTo("#samples button:nth-child(2)");
    await page.keyboard.press("Enter");
    assert.match((await answerFor(page, "Coffee"))[0].label, /espresso/);
    await tabTo("#pick");
    await tabTo("#choices input");
    await page.keyboard.press("ArrowRight");
    await page.waitForFunction(() => document.querySelector("#lead-bits").textContent === "3");
    await answerFor(page, "Coffee");
    await tabTo("#measure");
    await page.keyboard.press(" ");
    await page.waitForSelector("#chart .plot");
    await tabTo("summary");
    await page.keyboard.press("Enter");
    await tabTo("#chart .scroll");
    await tabTo("#onnx");
    await choose(page, "#onnx", join(root, "net/tests/data/small.onnx"));
    await tabTo("#own-bits");
    await page.keyboard.press("ArrowLeft");
    assert.equal(await textOf(page, "#own-bits-value"), "3");
    await tabTo("#own-block");
    await tabTo("#own-pictures");
    await tabTo("#own-start");
    await page.keyboard.press("Enter");
    await shown(page, "#result");
    await tabTo("#result a");
    await tabTo("#result button");
  });
});

test("axe finds nothing to object to, in both themes, on a phone and a desk", async () => {
  const axe = await readFile(join(web, "demo/node_modules/axe-core/axe.min.js"), "utf8");
  await onPage(async (page) => {
    await answerFor(page, "Chelsea");
    await page.click("#measure");
    await page.waitForSelector("#chart .plot");
    await page.click("summary");
    await quantise(page, join(root, "net/tests/data/small.onnx"));
    await shown(page, "#result");
    // A notice is part of the page too.
    await choose(page, "#pick", join(files, "broken.jpg"));
    await shown(page, "#notice");
    await page.evaluate(axe);
    // Firefox can't be told the theme.
    for (const theme of browserName === "firefox" ? ["its own"] : ["light", "dark"]) {
      for (const width of [390, 1440]) {
        if (theme !== "its own") {
          await page.emulateMediaFeatures([
            { name: "prefers-color-scheme", value: theme },
            { name: "prefers-reduced-motion", value: "reduce" },
          ]);
        }
        await page.setViewport({ width, height: 1000 });
        const violations = await page.evaluate(async () => {
          const { violations } = await globalThis.axe.run();
          return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
        });
        assert.deepEqual(violations, [], `${theme}, ${width}`);
        const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(wider <= 0, `${theme}, ${width}: ${wider} pixels too wide`);
      }
    }
  });
});
