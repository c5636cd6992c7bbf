// What a visitor of the page (web/demo) sees first, compares, shares and brings.
import assert from "node:assert/strict";
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { classifier } from "./onnx.mjs";
import { answerFor, assertSame, choose, files, modelOf, native } from "./on-page.mjs";
import { nativeTops, onPage, root, shown, textOf, web } from "./on-page.mjs";

/** Where an element ends, and where it begins. */
const edges = (page, selector) =>
  page.$eval(selector, (element) => {
    const { top, bottom } = element.getBoundingClientRect();
    return { top, bottom };
  });

test("answer, bits, sizes and ratio are seen without scrolling", async () => {
  const prepare = (page) =>
    page.evaluateOnNewDocument(() => {
      globalThis.moved = [];
      // Where the switch is, from the first progress on.
      const look = () => {
        const bits = document.querySelector("#bits");
        const loading = document.querySelector("#answer #loading");
        if (bits && loading) globalThis.moved.push([!loading.hidden, bits.getBoundingClientRect().top]);
        requestAnimationFrame(look);
      };
      look();
    });
  await onPage(async (page) => {
    await answerFor(page, "Chelsea");
    const moved = await page.evaluate(() => globalThis.moved);
    const during = moved.filter(([loading]) => loading).map(([, top]) => top);
    assert.ok(during.length > 0, "the progress stands in the answer");
    const { top } = await edges(page, "#bits");
    assert.ok(Math.abs(during.at(-1) - top) <= 4, `the switch moved from ${during.at(-1)} to ${top}`);
    for (const [width, height] of [[1440, 900], [820, 1180], [390, 844]]) {
      await page.setViewport({ width, height });
      for (const part of ["#picture", "#first", "#classes li", "#choices", "#smaller", "#share"]) {
        const { top, bottom } = await edges(page, part);
        assert.ok(top >= 0 && bottom > top && bottom <= height, `${width}x${height}: ${part} ends at ${bottom}`);
      }
    }
    const sizes = await page.$$eval(".choice-size", (sizes) => sizes.map(({ textContent }) => textContent));
    const files = await Promise.all([8, 5, 4, 3, 2.5].map((bits) => stat(join(root, modelOf(bits)))));
    assert.deepEqual(sizes, files.map(({ size }) => `${(size / 2 ** 20).toFixed(1)} MiB`));
  }, { prepare });
});

test("a link opens its picture in its bits; the widths are compared side by side", async () => {
  await onPage(async (page) => {
    const answer = await answerFor(page, "Coffee");
    assert.equal(await textOf(page, "#lead-bits"), "3");
    await assertSame(page, answer, modelOf(3), "coffee.jpg");
    await page.click("#samples button:nth-child(4)");
    await answerFor(page, "Rocket");
    assert.equal(await page.evaluate(() => location.hash), "#picture=rocket&bits=3");

    await page.click("#compare");
    await page.waitForFunction(() => document.querySelectorAll("#comparison tbody tr").length === 6);
    const rows = await page.$$eval("#comparison tbody tr", (rows) =>
      rows.map(({ cells }) => Array.from(cells, ({ textContent }) => textContent)),
    );
    assert.deepEqual(rows.map(([name]) => name), ["f32", "8 bits", "5 bits", "4 bits", "3 bits", "2.5 bits"]);
    const recorded = JSON.parse(await readFile(join(web, "demo/src/recorded.json"), "utf8")).rocket;
    for (const [at, bits] of [8, 5, 4, 3, 2.5].entries()) {
      const [top] = await nativeTops(modelOf(bits), "cli/pictures/rocket.jpg");
      const [, said, share] = rows[at + 1];
      assert.ok(said.startsWith(`${top[0].label} `), `${said}, expected ${top[0].label}`);
      // Of the command's five at least; the page looks at all classes.
      const scores = new Map(top.map(({ index, score }) => [index, score]));
      const sum = (of) => recorded.reduce((sum, entry) => sum + of(entry), 0);
      const least = sum(([index, score]) => Math.min(score, scores.get(index) ?? 0)) / sum(([, score]) => score);
      // The browser decodes the JPEG in its own way.
      const shown = Number.parseInt(share, 10);
      assert.ok(shown >= 100 * least - 3 && shown <= 100, `${share}, ${least}`);
      if (bits === 8) assert.ok(least > 0.95, `the recorded answer is not that network's: ${least}`);
    }
    // Agreement and sizes, of f32 and of each width.
    const agreements = rows.map((row) => Number.parseInt(row[2], 10));
    assert.ok(agreements.at(-1) < agreements[1], `2.5 bits agree to ${agreements.at(-1)}%, 8 to ${agreements[1]}%`);
    const files = await Promise.all([8, 5, 4, 3, 2.5].map((bits) => stat(join(root, modelOf(bits)))));
    const sizes = [18_805_431, ...files.map(({ size }) => size)];
    assert.deepEqual(rows.map((row) => row[3]), sizes.map((size) => `${(size / 2 ** 20).toFixed(1)} MiB`));
    await page.evaluate(await readFile(join(web, "demo/node_modules/axe-core/axe.min.js"), "utf8"));
    const violations = await page.evaluate(async () => (await globalThis.axe.run()).violations.map(({ id }) => id));
    assert.deepEqual(violations, []);
    // It holds whichever width runs; another picture's is not this one's.
    await page.click("#choices label::-p-text(4 bits)");
    await page.waitForFunction(() => document.querySelector("#lead-bits").textContent === "4");
    await answerFor(page, "Rocket");
    assert.equal(await page.$$eval("#comparison tbody tr", ({ length }) => length), 6);
    assert.equal(await textOf(page, "#compare"), "Compare again");
    await page.click("#samples button:nth-child(1)");
    await answerFor(page, "Chelsea");
    assert.equal(await page.$$eval("#comparison *", ({ length }) => length), 0);
    assert.equal(await textOf(page, "#compare"), "Compare");
  }, { hash: "#picture=coffee&bits=3" });
  await onPage(async (page) => {
    await assertSame(page, await answerFor(page, "Chelsea"), modelOf(2.5), "chelsea.jpg");
    assert.equal(await textOf(page, "#lead-bits"), "2.5");
  }, { hash: "#bits=2.5" });
});

test("a picture is pasted, a drawing drawn, a model file of one's own run", async () => {
  const drawing = join(files, "drawing.svg");
  await writeFile(drawing, '<svg xmlns="http://www.w3.org/2000/svg"><circle cx="50" cy="50" r="40"/></svg>');
  await writeFile(join(files, "thousand.onnx"), classifier(1000));
  const own = join(files, "thousand.safetensors");
  await native("quantize", join(files, "thousand.onnx"), own, "--bits", "5");
  await onPage(async (page) => {
    await answerFor(page, "Chelsea");
    await page.evaluate(async () => {
      const sample = document.querySelector("#samples button:nth-child(2) img");
      const file = new File([await (await fetch(sample.src)).blob()], "pasted.jpg", { type: "image/jpeg" });
      const clipboardData = new DataTransfer();
      clipboardData.items.add(file);
      const event = new ClipboardEvent("paste", { bubbles: true, cancelable: true });
      // Firefox takes none in the constructor.
      Object.defineProperty(event, "clipboardData", { value: clipboardData });
      document.body.dispatchEvent(event);
    });
    assert.match((await answerFor(page, "pasted.jpg"))[0].label, /espresso/);
    // What is one's own is in no link.
    assert.equal(await page.evaluate(() => location.hash), "#bits=4");
    await choose(page, "#pick", drawing);
    assert.equal((await answerFor(page, "drawing.svg")).length, 5);
    // A notice goes when something else is wanted.
    await choose(page, "#pick", join(files, "broken.jpg"));
    await shown(page, "#notice");
    await choose(page, "#pick", own);
    await page.waitForFunction(() => document.querySelector("#lead-bits").textContent === "5");
    assert.equal(await page.$eval("#notice", ({ hidden }) => hidden), true);
    // A thousand classes without names have ImageNet's.
    const [best] = await answerFor(page, "drawing.svg");
    assert.ok(!/class \d/.test(best.label), best.label);

    // Another that can't be loaded, however often, leaves switch and address as they were.
    for (const name of ["broken.safetensors", "broken too.safetensors"]) {
      await writeFile(join(files, name), "this is no network");
      await choose(page, "#pick", join(files, name));
      await shown(page, "#notice");
      const offered = await page.$$eval("#choices label", (labels) => labels.slice(5).map(({ title }) => title));
      assert.deepEqual(offered, ["thousand"]);
      assert.equal(await page.$eval("#choices :checked", (radio) => radio.closest("label").title), "thousand");
      assert.equal(await page.evaluate(() => location.hash), "");
      await answerFor(page, "drawing.svg");
    }
    await page.click("#share");
    await page.waitForFunction(() => document.querySelector("#share").textContent.includes(","));
    assert.match(await textOf(page, "#share"), /, without your picture and network$/);
    assert.equal(await textOf(page, "#live"), await textOf(page, "#share"));
    await page.focus("#skip");
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "stage");
    assert.equal(await page.evaluate(() => location.hash), "");
  });
});

test("what was chosen last is shown, whatever comes late or fails", async () => {
  const prepare = (page) =>
    page.evaluateOnNewDocument(() => {
      const { fetch } = globalThis;
      globalThis.refused = /^$/;
      globalThis.held = new Map();
      globalThis.fetch = async (source, options) => {
        const address = String(source?.url ?? source);
        if (globalThis.refused.test(address)) throw new TypeError("Failed to fetch");
        const response = await fetch(source, options);
        await globalThis.held.get(/coffee/.exec(address)?.[0]);
        return response;
      };
    });
  await onPage(async (page) => {
    const before = await answerFor(page, "Chelsea");
    // The width that runs, chosen again during another's load.
    await page.evaluate(() => {
      for (const value of [0, 2]) document.querySelector(`#choices input[value="${value}"]`).click();
    });
    assert.deepEqual(await answerFor(page, "Chelsea"), before);
    assert.equal(await page.$eval("#loading", ({ hidden }) => hidden), true);
    assert.equal(await textOf(page, "#lead-bits"), "4");

    // The picture that arrives last is not the last chosen.
    await page.evaluate(() => {
      globalThis.held.set("coffee", new Promise((resolve) => (globalThis.release = resolve)));
      for (const at of [2, 4]) document.querySelector(`#samples button:nth-child(${at})`).click();
    });
    await answerFor(page, "Rocket");
    await page.evaluate(async () => {
      globalThis.release();
      await new Promise((resolve) => setTimeout(resolve, 500));
    });
    await answerFor(page, "Rocket");
    assert.equal(await textOf(page, "#samples [aria-pressed=true]"), "Rocket");

    // A comparison that fails begins anew.
    const rows = () => page.$$eval("#comparison tbody th", (names) => names.map(({ textContent }) => textContent));
    await page.evaluate(() => (globalThis.refused = /i5.*\.safetensors/));
    await page.click("#compare");
    await page.waitForSelector("#notice button");
    assert.deepEqual(await rows(), ["f32", "8 bits"]);
    await page.evaluate(() => (globalThis.refused = /i3.*\.safetensors/));
    await page.click("#notice button");
    await page.waitForFunction(() => document.querySelectorAll("#comparison tbody tr").length === 4);
    await page.waitForSelector("#compare:not(:disabled)");
    assert.deepEqual(await rows(), ["f32", "8 bits", "5 bits", "4 bits"]);
  }, { prepare });
});
