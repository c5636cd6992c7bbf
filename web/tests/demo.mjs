// The page (web/demo) as a person uses it.
import assert from "node:assert/strict";
import { mkdtemp, readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { enable, launch, name as browserName, withoutWebGpu } from "./launch.mjs";
import { SLOW, answerFor, assertSame, choose, files, modelOf, native } from "./on-page.mjs";
import { offline, onPage, quantise, root, shown, textOf, web } from "./on-page.mjs";

test("a sample is clicked, its layers measured, the bits switched", async (t) => {
  await onPage(async (page) => {
    // The first sample is looked at without a click.
    const cat = await answerFor(page, "Chelsea");
    assert.match(cat[0].label, /cat/);
    await assertSame(page, cat, modelOf(4), "chelsea.jpg");
    // Firefox hides maker and family.
    const device = browserName === "firefox" ? "a GPU that the browser does not name" : "google swiftshader";
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

    // The others are compared side by side in sight.mjs.
    await page.click("#choices label::-p-text(8 bits)");
    await page.waitForFunction(() => document.querySelector("#lead-bits").textContent === "8");
    await assertSame(page, await answerFor(page, "Coffee"), modelOf(8), "coffee.jpg");
    const ofEight = JSON.parse(await native("inspect", modelOf(8), "--json"));
    const [floats, now] = ["float_bytes", "bytes"].map((key) => ofEight.reduce((sum, layer) => sum + layer[key], 0));
    assert.equal(await textOf(page, "#smaller"), `${(floats / now).toFixed(1)}× smaller`);
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

test("without WebGPU the page runs on the processor, says so and what to enable, and quantises", async (t) => {
  const without = await launch(withoutWebGpu);
  try {
    const use = async (page) => {
      const cat = await answerFor(page, "Chelsea");
      await assertSame(page, cat, modelOf(4), "chelsea.jpg");
      assert.equal(await textOf(page, "#device-name"), "On the processor: this browser has no WebGPU");
      assert.match(await textOf(page, "#time-note"), /on the processor.*not a GPU’s time/);
      t.diagnostic(`${await textOf(page, "#milliseconds")} on the processor`);
      assert.ok((await textOf(page, "#enable")).includes(enable));
      assert.equal(await page.$eval("#enable", ({ offsetHeight }) => offsetHeight > 0), true);
      assert.equal(await page.$eval("#notice", ({ hidden }) => hidden), true);
      await page.click("#measure");
      await page.waitForSelector("#chart .plot");
      await page.click("#choices label::-p-text(3 bits)");
      await page.waitForFunction(() => document.querySelector("#lead-bits").textContent === "3");
      await assertSame(page, await answerFor(page, "Chelsea"), modelOf(3), "chelsea.jpg");
      await quantise(page, join(root, "net/tests/data/small.onnx"));
      await shown(page, "#result");
    };
    // The browser's own word on what is switched off is no defect.
    await onPage(use, { of: without, expected: /WebGPU Context Provider/ });
  } finally {
    await without.close();
  }
});

test("a model file that is none is named, and the network before it stays", async () => {
  await onPage(async (page) => {
    await answerFor(page, "Chelsea");
    await choose(page, "#pick", join(files, "broken.safetensors"));
    await shown(page, "#notice");
    assert.match(await textOf(page, "#notice"), /^broken\.safetensors: /);
    await page.waitForFunction(() => document.querySelector("#choices :checked").value === "2");
    await page.click("#samples button:nth-child(2)");
    assert.match((await answerFor(page, "Coffee"))[0].label, /espresso/);
  });
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
    await offline(async () => {
      await page.reload();
      assert.deepEqual(await answerFor(page, "Chelsea"), before);
      await quantise(page, join(root, "net/tests/data/small.onnx"));
      await shown(page, "#result");
      // A model that was never used is not there: the page says so, and stays with the one it has.
      await page.click("#choices label::-p-text(8 bits)");
      await shown(page, "#notice");
      assert.match(await textOf(page, "#notice"), /is there a connection/);
      const chosen = () => document.querySelector("#choices :checked").value === "2";
      await page.waitForFunction(chosen);
    });
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
    await tabTo("#share");
    await tabTo("#compare");
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
