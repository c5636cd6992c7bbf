// Layers through the package in a real browser.
import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import { test } from "node:test";
import { enable, features, golden, launchWithout, noPackedDot } from "./harness.mjs";
import { openPage, pagesOf, root, withoutFeature } from "./harness.mjs";
import { random } from "./page/random.js";

const inPage = pagesOf("/page/golden.js");

async function goldenNames() {
  const names = (await readdir(golden)).filter((file) => extname(file) === ".safetensors").sort();
  assert.ok(names.length >= 32, `golden cases: ${names.length}`);
  return names;
}

function checkGolden(result, cases, t) {
  t.diagnostic(`${result.cases} cases, ${result.runs} runs, worst error ${result.worst.toExponential(1)}`);
  assert.deepEqual(result.failures, []);
  assert.equal(result.cases, cases);
  // Each case has two partitions, and at least six runs of each.
  assert.ok(result.runs >= 12 * cases, `${result.runs} runs`);
  assert.ok(result.worst > 0);
  // Scales as halves run everywhere, tensors of halves where the browser has them.
  t.diagnostic(`${result.halves} runs with halves, shader-f16: ${result.shaderF16}`);
  assert.ok(result.halves >= (result.shaderF16 ? 6 : 2) * cases, `${result.halves} runs with halves`);
}

/** So many of the cases, by lot: compiling the pipelines of each takes software ten seconds. */
function drawn(names, count, t) {
  const seed = Number(process.env.DSCONV_SEED ?? 1 + Math.floor(Math.random() * 2 ** 31));
  t.diagnostic(`DSCONV_SEED=${seed}`);
  const next = random(seed);
  const left = [...names];
  return Array.from({ length: count }, () => left.splice(next() % left.length, 1)[0]);
}

test("golden cases on every kernel", async (t) => {
  const all = await goldenNames();
  // Another browser has run them all.
  const names = process.env.GOLDEN === "drawn" ? drawn(all, 12, t) : all;
  const result = await inPage("runGolden", { argument: names });
  t.diagnostic(`packed dot product: ${result.packedDotProduct}`);
  checkGolden(result, names.length, t);
});

/** Cases of one width, which share pipelines. */
async function fewNames(t) {
  const names = (await goldenNames()).filter((file) => file.includes("b4"));
  assert.ok(names.length >= 8, `golden cases of four bits: ${names.length}`);
  return drawn(names, 6, t);
}

test("golden cases without packed_4x8_integer_dot_product", async (t) => {
  const names = await fewNames(t);
  const result = await inPage("runGolden", { argument: names, script: `(${noPackedDot})()` });
  assert.equal(result.packedDotProduct, false);
  checkGolden(result, names.length, t);
});

// Those that the browser has: without the others, the cases above ran.
for (const feature of features) {
  test(`golden cases without ${feature}`, async (t) => {
    const names = await fewNames(t);
    const result = await inPage("runGolden", { argument: names, script: `(${withoutFeature})("${feature}")` });
    checkGolden(result, names.length, t);
  });
}

test("every shader is compiled by the browser", async (t) => {
  // As tests/compilers.rs wrote them. A source once, whatever its overrides: SwiftShader takes long for each, and
  // Tint has seen them all there.
  const list = await readFile(join(root, "target/tmp/tint/list.txt"), "utf8");
  const variants = await Promise.all(
    list.split("\n").filter(Boolean).map(async (line) => {
      const [path, ...overrides] = line.split("\t");
      const constants = Object.fromEntries(
        overrides.map((text) => text.split("=")).map(([key, value]) => [key, Number(value)]),
      );
      return { name: basename(path), code: await readFile(path, "utf8"), constants };
    }),
  );
  const shaders = [...new Map(variants.map((variant) => [variant.code, variant])).values()];
  assert.ok(shaders.length >= 7);
  const compile = async (shaders) => {
    const adapter = await navigator.gpu.requestAdapter();
    const features = ["subgroups", "shader-f16"].filter((feature) => adapter.features.has(feature));
    const device = await adapter.requestDevice({ requiredFeatures: features });
    const problems = [];
    let compiled = 0;
    const enables = { subgroups: "subgroups", f16: "shader-f16" };
    for (const { name, code, constants } of shaders) {
      // `enable` directives stand on the first line.
      const wanted = [...code.split("\n")[0].matchAll(/enable (\w+);/g)].map(([, what]) => enables[what]);
      if (!wanted.every((feature) => features.includes(feature))) continue;
      device.pushErrorScope("validation");
      const module = device.createShaderModule({ code });
      const { messages } = await module.getCompilationInfo();
      await device
        .createComputePipelineAsync({ layout: "auto", compute: { module, entryPoint: "main", constants } })
        .catch((error) => problems.push(`${name}: ${error.message}`));
      const error = await device.popErrorScope();
      problems.push(...messages.map((m) => `${name}:${m.lineNum}:${m.linePos}: ${m.message}`));
      if (error) problems.push(`${name}: ${error.message}`);
      compiled += 1;
    }
    return { features, compiled, problems };
  };
  const page = await openPage();
  const result = await page.evaluate(`(${compile})(${JSON.stringify(shaders)})`);
  await page.close();
  t.diagnostic(`${result.compiled} of ${shaders.length} shaders, with ${result.features.join(", ")}`);
  assert.deepEqual(result.problems, []);
  assert.deepEqual(result.features, features);
  const lacks = (what, feature) => (features.includes(feature) ? [] : [`enable ${what};`]);
  const lacking = [...lacks("subgroups", "subgroups"), ...lacks("f16", "shader-f16")];
  const skipped = shaders.filter(({ code }) => lacking.some((what) => code.split("\n")[0].includes(what))).length;
  assert.equal(result.compiled, shaders.length - skipped);
});

test("memory stays flat over 50 layers and runs", async (t) => {
  const { during, after: left, created } = await inPage("memoryOverRuns", { argument: 50 });
  assert.equal(left.length, 50);
  t.diagnostic(`${during[0]} bytes with a layer, ${left.at(-1)} without, ${created} buffers made`);
  assert.deepEqual(left, Array(50).fill(0));
  assert.deepEqual(during, Array(50).fill(during[0]));
});

test("a lost device is an error, and a new one gives the same", async () => {
  const { codes, message, same } = await inPage("deviceLost");
  assert.deepEqual(
    codes,
    ["running", "run", "layer", "disposed"].map((what) => `${what}: DeviceLostError device-lost`),
  );
  assert.equal(message, "string");
  assert.ok(same);
});

test("bad input is an error that names the field", async () => {
  const { count, wrong } = await inPage("badInput");
  assert.deepEqual(wrong, []);
  assert.ok(count > 20);
});

test("without WebGPU the error says what to enable", async () => {
  const check = (error) => {
    assert.equal(error?.name, "NoWebGpuError", JSON.stringify(error));
    assert.equal(error.code, "no-webgpu");
    assert.match(error.message, new RegExp(enable.replaceAll(".", "\\.")));
  };
  // Switched off in the browser, whose own word on it is no defect.
  const without = await launchWithout();
  try {
    check(await inPage("openFails", { of: without, expected: /WebGPU Context Provider/ }));
  } finally {
    await without.close();
  }
  // A browser that has never heard of it, and one without an adapter.
  const gone = `Object.defineProperty(Navigator.prototype, "gpu", { value: undefined })`;
  check(await inPage("openFails", { script: gone }));
  const none = await inPage("openFails", { script: "GPU.prototype.requestAdapter = () => Promise.resolve(null)" });
  check(none);
  assert.match(none.message, /no adapter/);
});
