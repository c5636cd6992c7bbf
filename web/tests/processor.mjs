// Networks on the processor, in a browser whose WebGPU is switched off, against what the command says natively.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { random } from "./page/random.js";
import { launchWithout, pagesOf, root } from "./harness.mjs";

const inPage = pagesOf("/page/network.js");
const MODEL = "cli/models/efficientnet-lite0-i4.safetensors";
/** The browser's own word on what is switched off is no defect. */
const expected = /WebGPU Context Provider/;

let folder;
let of;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "dsconv-processor-"));
  of = await launchWithout();
});
after(async () => {
  await of?.close();
  await rm(folder, { recursive: true });
});

test("pictures get the scores that the command's reference gives them", async (t) => {
  const argument = { names: ["chelsea", "rocket"], kind: "cpu" };
  const { answers, memoryUse, labels } = await inPage("classify", { argument, of, expected });
  assert.equal(labels.length, 1000);
  assert.equal(memoryUse.total, 0);
  for (const { name, png, classes, milliseconds } of answers) {
    const path = join(folder, `${name}.png`);
    await writeFile(path, Buffer.from(png, "base64"));
    const command = ["classify", MODEL, path, "--device", "cpu", "--json"];
    const [{ top }] = JSON.parse(execFileSync("target/release/dsconv", command, { cwd: root, encoding: "utf8" }));
    t.diagnostic(`${name}: ${classes[0].label}, ${milliseconds.toFixed(0)} ms`);
    assert.deepEqual(classes.map(({ index }) => index), top.map(({ index }) => index));
    // The same loops; functions such as exp are rounded otherwise.
    for (const [at, { score }] of classes.entries()) {
      assert.ok(Math.abs(score - top[at].score) <= 1e-6, `${name}, ${at}: ${score}, ${top[at].score}`);
    }
  }
});

test("ONNX is run, on tensors of any shape", async (t) => {
  const seed = Number(process.env.DSCONV_SEED ?? 1 + Math.floor(Math.random() * 2 ** 31));
  t.diagnostic(`DSCONV_SEED=${seed}`);
  const next = random(seed);
  const tensors = [[1, 5, 4, 4], [2, 5, 3, 4]].map((shape) => ({
    data: Array.from({ length: shape.reduce((n, extent) => n * extent) }, () => (next() % 2001) / 1000 - 1),
    shape,
  }));
  const { outputs, same, ends } = await inPage("runTensors", { argument: { tensors, kind: "cpu" }, of, expected });
  assert.ok(same, "runs at once differ from runs in turn");
  assert.deepEqual(ends, [{ name: "y", shape: [6, null] }]);
  // networks.mjs holds WebGPU against the command's reference; here it is the same network by WebGPU.
  const gpu = await inPage("runTensors", { argument: { tensors } });
  for (const [i, { data, shape }] of outputs.entries()) {
    assert.deepEqual(shape, gpu.outputs[i].shape);
    const largest = Math.max(...data.map(Math.abs));
    assert.ok(largest > 0);
    for (const [at, value] of data.entries()) {
      assert.ok(Math.abs(value - gpu.outputs[i].data[at]) <= 4e-6 * largest, `${i}, ${at}`);
    }
  }
});

test("the page stays live, what is not run is refused, and a device that is disposed of ends", async (t) => {
  const page = await inPage("onProcessor", { of, expected });
  t.diagnostic(`${page.steps} steps, ${page.ticks} ticks of the page's clock`);
  assert.deepEqual([page.kind, page.software, page.clock, page.memory], ["cpu", true, "wall", 0]);
  assert.ok(page.steps > 50 && page.ticks > 20, `${page.steps} steps, ${page.ticks} ticks`);
  assert.match(page.label, /espresso/);
  const { int8, layer, noise, shape } = page.refused;
  assert.match(`${int8?.name}: ${int8?.message}`, /^UnsupportedError: .*integer activations/);
  assert.match(`${layer?.name}: ${layer?.message}`, /^UnsupportedError: .*single layers/);
  for (const error of [noise, shape]) assert.equal(error?.name, "InvalidInputError");
  for (const [what, error] of Object.entries(page.ended)) assert.equal(error?.name, "DeviceLostError", what);
  assert.deepEqual(page.lost, { message: "disposed" });
});

test("a worker or module that can't be loaded is told", async () => {
  const [module, worker] = await inPage("noProcessor", { of, expected: /WebGPU Context Provider|404|nothing\.js/ });
  assert.match(`${module?.name}: ${module?.message}`, /^LoadError: .*expected a WebAssembly module.*`tools`/);
  assert.match(`${worker?.name}: ${worker?.message}`, /^LoadError: .*worker could not be loaded.*pass `worker`/);
});
