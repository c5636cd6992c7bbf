// Whole networks through the package in a real browser, against what the command says natively.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { classifier } from "./onnx.mjs";
import { noPackedDot, openPage, pagesOf, root, routes, trickled, web, withoutFeature } from "./harness.mjs";

const inPage = pagesOf("/page/network.js");
const MODEL = join(root, "cli/models/efficientnet-lite0-i4.safetensors");
const SMALL = join(root, "net/tests/data/small.onnx");

let folder;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "dsconv-web-"));
});
after(() => rm(folder, { recursive: true }));

/** The command. */
function dsconv(...options) {
  const command = join(root, "target/release/dsconv");
  const env = { ...process.env, XDG_CACHE_HOME: folder };
  return execFileSync(command, options, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], env });
}

/** Writes base64 into a file of the test's folder. */
async function file(name, base64) {
  const path = join(folder, name);
  await writeFile(path, Buffer.from(base64, "base64"));
  return path;
}

/** Header and bytes of a safetensors file. */
function safetensors(bytes) {
  const start = 8 + Number(bytes.readBigUInt64LE());
  const { __metadata__: metadata, ...tensors } = JSON.parse(bytes.subarray(8, start));
  return { metadata, tensors, data: bytes.subarray(start) };
}

/** Floats in such a file. */
function toSafetensors(name, { data, shape }) {
  const values = Buffer.from(Float32Array.from(data).buffer);
  const header = JSON.stringify({ [name]: { dtype: "F32", shape, data_offsets: [0, values.length] } });
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, Buffer.from(header), values]);
}

/** The largest difference as a share of the largest value. */
function worst(got, expected) {
  assert.equal(got.length, expected.length);
  const largest = Math.max(...expected.map(Math.abs));
  return Math.max(...got.map((value, i) => Math.abs(value - expected[i]))) / largest;
}

const randomTensor = (shape) => ({
  data: Array.from({ length: shape.reduce((n, extent) => n * extent) }, () => Math.fround(2 * Math.random() - 1)),
  shape,
});

/** Of scores of the same pixels: a probability, so that none is beyond 1. */
const SCORE_BOUND = 1e-4;

test("pictures get the classes that the command gives them", async (t) => {
  const names = ["chelsea", "astronaut", "coffee", "rocket"];
  const page = await inPage("classify", { argument: { names, activations: "f32" } });
  const pngs = await Promise.all(page.answers.map(({ name, png }) => file(`${name}.png`, png)));
  const native = JSON.parse(dsconv("classify", MODEL, ...pngs, "--json"));
  let largest = 0;
  for (const [i, { name, classes, milliseconds }] of page.answers.entries()) {
    const { top } = native[i];
    assert.deepEqual(classes.map(({ index, label }) => [index, label]), top.map(({ index, label }) => [index, label]));
    const errors = classes.map(({ score }, place) => Math.abs(score - top[place].score));
    largest = Math.max(largest, ...errors);
    assert.ok(milliseconds > 0);
    t.diagnostic(`${name}: ${classes[0].label} ${classes[0].score.toFixed(3)}, ${milliseconds.toFixed(0)} ms`);
  }
  t.diagnostic(`scores differ by at most ${largest.toExponential(1)}`);
  assert.ok(largest <= SCORE_BOUND, `${largest}`);
  assert.match(page.answers[0].classes[0].label, /cat/);
  // The browser's decoder may round otherwise than the command's.
  const jpeg = JSON.parse(dsconv("classify", MODEL, join(root, "cli/pictures/chelsea.jpg"), "--json"));
  const indices = (classes) => classes.map(({ index }) => index);
  assert.deepEqual(indices(page.answers[0].classes), indices(jpeg[0].top));
});

test("a picture has the same answer in every form", async () => {
  routes.set("/classifier.onnx", classifier());
  const { bitmap, ...others } = await inPage("forms", { argument: { name: "chelsea", model: "/classifier.onnx" } });
  assert.equal(bitmap.length, 3);
  assert.equal(Object.keys(others).length, 6);
  for (const [form, classes] of Object.entries(others)) assert.deepEqual(classes, bitmap, form);
  // Another picture has another answer.
  const { bitmap: another } = await inPage("forms", { argument: { name: "rocket", model: "/classifier.onnx" } });
  assert.notDeepEqual(another, bitmap);
});

test("a network tells what `dsconv inspect` tells", async () => {
  const page = await inPage("classify", { argument: { names: ["coffee"], activations: "int8" } });
  const rows = JSON.parse(dsconv("inspect", MODEL, "--json"));
  assert.deepEqual(
    page.layers.map((layer) => ["name", "shape", "groups", "bits", "floatBytes", "bytes"].map((key) => layer[key])),
    rows.map((row) => [row.name, row.shape, row.groups, row.bits, row.float_bytes, row.bytes]),
  );
  assert.deepEqual(page.inputs.map(({ shape }) => shape.slice(1)), [[3, 224, 224]]);
  assert.equal(page.outputs.length, 1);
  assert.equal(page.labels.length, 1000);
  // Integer activations too: another way to the same picture.
  const [{ classes, png }] = page.answers;
  const [native] = JSON.parse(dsconv("classify", MODEL, await file("int8.png", png), "--int8", "--json"));
  assert.equal(classes[0].index, native.top[0].index);
  const { weights, constants, tensors, parameters, total } = page.memoryUse;
  assert.equal(weights + constants + tensors + parameters, total);
  // In the file depthwise weights are bytes and scales halves; on the device both are floats.
  const packed = page.layers.reduce((sum, { bits, bytes, floatBytes }) => sum + (bits === null ? floatBytes : bytes), 0);
  assert.ok(weights >= packed && weights < 1.1 * packed, `${weights} bytes of weights, ${packed} packed`);
});

test("tensors of any shape give what the reference gives", async (t) => {
  const tensors = [[1, 5, 4, 4], [2, 5, 3, 4], [1, 5, 9, 4]].map(randomTensor);
  const page = await inPage("runTensors", { argument: { tensors } });
  assert.deepEqual(page.inputs, [{ name: "x", shape: [null, 5, null, null] }]);
  assert.deepEqual(page.ends, [{ name: "y", shape: [6, null] }]);
  assert.ok(page.same, "runs at once differ from runs in turn");
  let largest = 0;
  for (const [i, tensor] of tensors.entries()) {
    const [input, output] = [join(folder, "input.safetensors"), join(folder, "output.safetensors")];
    await writeFile(input, toSafetensors("x", tensor));
    dsconv("run", SMALL, "--input", input, "--output", output, "--device", "cpu");
    const file = safetensors(await readFile(output));
    assert.deepEqual(page.outputs[i].shape, file.tensors.y.shape);
    const values = new Float32Array(Uint8Array.from(file.data).buffer);
    largest = Math.max(largest, worst(page.outputs[i].data, [...values]));
  }
  t.diagnostic(`worst error ${largest.toExponential(1)} of the largest value`);
  assert.ok(largest <= 4e-6, `${largest}`);
});

/** Compares model files but for the order of their metadata. */
async function sameModels(got, path) {
  const [page, native] = [safetensors(Buffer.from(got, "base64")), safetensors(await readFile(path))];
  assert.deepEqual(page.metadata, native.metadata);
  assert.deepEqual(page.tensors, native.tensors);
  assert.ok(page.data.equals(native.data), "tensors differ");
}

test("a worker quantises as the command does", async () => {
  const options = { bits: 3, blockSize: 2, method: "signed-extreme", labels: ["one", "two"] };
  const page = await inPage("quantized", { argument: { source: "/data/small.onnx", options } });
  const output = join(folder, "small.safetensors");
  await writeFile(join(folder, "labels.txt"), "one\ntwo\n");
  const how = ["--bits", "3", "--block", "2", "--method", "signed-extreme", "--labels", join(folder, "labels.txt")];
  const rows = JSON.parse(dsconv("quantize", SMALL, output, ...how, "--json"));
  await sameModels(page.model, output);
  assert.deepEqual(
    page.layers.map(({ bits, bytes, weightSnr }) => [bits, bytes, weightSnr]),
    rows.map(({ bits, bytes, weight_snr_db }) => [bits, bytes, weight_snr_db]),
  );
  assert.deepEqual(page.told.at(0), [0, 1, "conv"]);
});

test("calibration in the worker is the command's, and leaves the page alive", async (t) => {
  const argument = { source: "/models/efficientnet-lite0-i4.safetensors", options: { views: 1 }, pictures: ["rocket"] };
  const started = Date.now();
  const page = await inPage("quantized", { argument });
  t.diagnostic(`${Date.now() - started} ms, ${page.ticks} ticks of the page's clock`);
  // Ten milliseconds apart, if nothing else runs on this machine.
  assert.ok(page.ticks > 50, `${page.ticks}`);
  assert.ok(page.told.length >= 50);
  const output = join(folder, "calibrated.safetensors");
  const pictures = join(folder, "calibration");
  await mkdir(pictures);
  await writeFile(join(pictures, "rocket.png"), Buffer.from(page.pngs[0], "base64"));
  dsconv("quantize", MODEL, output, "--calibrate", pictures, "--views", "1", "--device", "cpu");
  await sameModels(page.model, output);
});

test("a quantisation that is aborted ends with its worker", async () => {
  const { message, workers, after, already } = await inPage("abortQuantize");
  assert.deepEqual([message, already], ["enough", "enough"]);
  assert.deepEqual(workers, ["terminated"]);
  assert.equal(after, 0);
});

test("integer activations without packed_4x8_integer_dot_product differ by rounding", async () => {
  const { data, shape } = randomTensor([1, 5, 6, 4]);
  const output = join(folder, "int8.safetensors");
  dsconv("quantize", SMALL, output, "--bits", "4", "--block", "8");
  const argument = { model: (await readFile(output)).toString("base64"), data, shape };
  const with_ = await inPage("runInt8", { argument });
  const without = await inPage("runInt8", { argument, script: `(${noPackedDot})()` });
  assert.equal(without.packedDotProduct, false);
  assert.deepEqual(without.f32, with_.f32);
  for (const { int8 } of [with_, without]) {
    const error = worst(int8, with_.f32);
    assert.ok(error > 0 && error < 0.02, `${error}`);
  }
  // Kernels in floats round otherwise; at worst an activation of the layer between falls on the next integer.
  const difference = worst(without.int8, with_.int8);
  assert.ok(difference < 0.01, `${difference}`);
});

test("every source loads, with progress; an abort ends the download", async () => {
  const page = await inPage("sources", { expected: /404|Failed to load resource|localhost:1|CORS|refused/i });
  assert.equal(page.size, (await stat(MODEL)).size);
  assert.equal(page.layers, 1);
  for (const [name, told] of Object.entries(page.told)) {
    const loaded = told.map(([bytes]) => bytes);
    assert.ok(told.length > 0 && loaded.every((bytes, i) => i === 0 || bytes > loaded[i - 1]), name);
    assert.deepEqual(told.at(-1), [page.size, page.size], name);
  }
  assert.ok(page.told.string.length > 1, "a download is told in parts");
  assert.deepEqual([page.missing.name, page.missing.code], ["LoadError", "load"]);
  assert.match(page.missing.message, /nothing\.onnx: 404/);
  assert.equal(page.nowhere.name, "LoadError");
  assert.equal(page.aborted, "enough");
  for (let wait = 0; trickled() === 0 && wait < 100; wait += 1) await new Promise((done) => setTimeout(done, 50));
  assert.equal(trickled(), 1, "the server still sends");
});

test("a file that is no model is named", async () => {
  const page = await inPage("wrongFiles");
  const words = {
    jpeg: ["/pictures/coffee.jpg", "expected a model file of dsconv or an ONNX file, got a JPEG picture"],
    page: ["http://localhost", "HTML"],
    empty: ["an empty file"],
    pointer: ["model.safetensors", "Git LFS"],
    zip: ["zip archive"],
    quantize: ["JPEG"],
  };
  for (const [name, expected] of Object.entries(words)) {
    assert.equal(page[name]?.name, "InvalidInputError", name);
    for (const word of expected) assert.ok(page[name].message.includes(word), `${name}: ${page[name].message}`);
  }
});

test("what a caller throws or aborts is the caller's own error, and leaves nothing", async () => {
  const { thrown, aborted, left } = await inPage("callersOwn");
  assert.deepEqual(thrown, { url: "mine", blob: "mine", bytes: "mine", quantize: "mine" });
  assert.deepEqual(aborted, { url: "mine", bytes: "mine", device: "mine" });
  assert.equal(left, 0);
});

test("a network that is disposed of finishes what has begun", async () => {
  const { same, steps, left, after: later } = await inPage("disposedInBetween");
  assert.ok(same);
  assert.ok(steps > 50, `${steps}`);
  assert.equal(left, 0);
  assert.equal(later.name, "InvalidInputError");
  assert.match(later.message, /network: .*disposed/);
});

test("a module that has failed says so, and a fresh one takes its place", async () => {
  const { failed, waiting, run, load, lost, same } = await inPage("failedModule", {
    // What the old module still waited for comes too late.
    expected: /previous WASM instance/,
  });
  assert.equal(failed.name, "InternalError");
  assert.match(failed.message, /module failed.*unreachable.*open a new device/);
  for (const error of [waiting, run, load]) {
    assert.equal(error?.name, "DeviceLostError");
    assert.match(error.message, /module failed/);
  }
  assert.match(lost.message, /module failed/);
  assert.ok(same);
});

test("where no fresh module can be had either, calls end, and a later device has one", async () => {
  const { failed, waiting, open, shape } = await inPage("deadModule", { expected: /previous WASM instance/ });
  assert.match(`${failed.name}: ${failed.message}`, /^InternalError: .*module failed.*unreachable/);
  assert.equal(waiting?.name, "DeviceLostError");
  assert.match(`${open.name}: ${open.message}`, /^InternalError: .*no memory; load the page again/);
  assert.deepEqual(shape, [6, 16]);
});

test("damaged models are errors, and the module lives on", async (t) => {
  const seed = Number(process.env.DSCONV_SEED ?? 1 + Math.floor(Math.random() * 2 ** 31));
  t.diagnostic(`DSCONV_SEED=${seed}`);
  const page = await inPage("hostile", { argument: { seed, rounds: 150 } });
  t.diagnostic(`${page.counts.refused} refused, ${page.counts.loaded} loaded`);
  assert.deepEqual(page.wrong, []);
  assert.ok(page.counts.refused > 150 && page.counts.refused + page.counts.loaded > 500);
  assert.equal(page.inWorker.name, "InvalidInputError");
  assert.equal(page.unsupported.name, "UnsupportedError");
  for (const word of ["Rule", "Mux", "relu", "mul"]) assert.ok(page.unsupported.message.includes(word), word);
  assert.ok(page.alive);
});

test("bad input is an error that names the field", async () => {
  const { count, wrong } = await inPage("badInput");
  assert.deepEqual(wrong, []);
  assert.ok(count > 20);
});

test("memory stays flat over 50 networks", async (t) => {
  const { during, after: left, sizes, created } = await inPage("memoryOverRuns", { argument: 50 });
  t.diagnostic(`${during} bytes with a network, ${left} without, ${created} buffers made`);
  t.diagnostic(`the module has ${sizes.at(-1)} bytes`);
  assert.deepEqual(left, [0]);
  // Floats and integers.
  assert.ok(during.length <= 2, `${during}`);
  assert.equal(sizes.at(-1), sizes[9], `${sizes}`);
});

test("a lost device is an error, and the network loads on a new one", async () => {
  const { codes, same } = await inPage("deviceLost");
  assert.deepEqual(codes, ["running", "run", "load"].map((what) => `${what}: DeviceLostError device-lost`));
  assert.ok(same);
});

/** An adapter that does not say that it is software, whose timestamps are no times. */
const likeHardware = () => {
  Object.defineProperty(GPUAdapterInfo.prototype, "isFallbackAdapter", { value: false });
};

for (const [clock, script] of [
  ["gpu", `(${likeHardware})()`],
  ["wall", `(${likeHardware})(), (${withoutFeature})("timestamp-query")`],
]) {
  test(`every step is timed, by the ${clock} clock`, async (t) => {
    const { steps, milliseconds, layers, ...profile } = await inPage("profile", { script });
    assert.equal(profile.clock, clock);
    const sum = steps.reduce((sum, step) => sum + step.milliseconds, 0);
    const slowest = steps.reduce((a, b) => (b.milliseconds > a.milliseconds ? b : a));
    t.diagnostic(`${steps.length} steps: ${sum.toFixed(0)} ms, a run ${milliseconds.toFixed(0)} ms`);
    t.diagnostic(`the slowest: ${slowest.name} (${slowest.kernel}), ${slowest.milliseconds.toFixed(1)} ms`);
    const convolutions = steps.filter(({ kernel }) => kernel.startsWith("conv_")).map(({ name }) => name);
    assert.deepEqual(convolutions, layers);
    assert.ok(steps.every((step) => step.milliseconds >= 0) && sum > 0);
  });
}

/** The JavaScript in a text in Markdown. */
async function examplesIn(path) {
  const text = await readFile(join(root, path), "utf8");
  const blocks = [...text.matchAll(/^```js\n(.*?)^```/gms)];
  return blocks.map(([, code], i) => ({ name: `${path}, example ${i + 1}`, code }));
}

test("the examples of README and documentation run", async (t) => {
  const texts = ["README.md", "docs/browser.md", "web/README.md"];
  const examples = (await Promise.all(texts.map(examplesIn))).flat();
  assert.ok(examples.length >= 4, `${examples.length} examples`);
  routes.set("/model.safetensors", await readFile(MODEL));
  routes.set("/network.onnx", await readFile(SMALL));
  routes.set("/cat.jpg", await readFile(join(root, "cli/pictures/chelsea.jpg")));
  for (const [i, { name, code }] of examples.entries()) {
    const path = `/example${i}.js`;
    routes.set(path, code);
    const page = await openPage();
    const said = [];
    const problems = [];
    page.on("console", (message) => (message.type() === "log" ? said : problems).push(message.text()));
    page.on("pageerror", (error) => problems.push(String(error)));
    await page.evaluate(`import("${path}").then(() => {})`);
    t.diagnostic(`${name}: ${said.join("; ")}`);
    assert.deepEqual(problems, [], name);
    await page.close();
  }
});

test("the package is small, and as large as the README says", async (t) => {
  const folders = ["dist", "dist/module", "dist/dsconv"];
  const list = async (folder) => (await readdir(join(web, folder))).map((name) => join(folder, name));
  const files = (await Promise.all(folders.map(list))).flat().filter((name) => /\.(js|wasm)$/.test(name));
  const ofTools = (name) => /worker-text\.js$|tools\.wasm$/.test(name);
  const sizeOf = async (names) => {
    const whole = Buffer.concat(await Promise.all(names.map((name) => readFile(join(web, name)))));
    return [whole.length, gzipSync(whole, { level: 9 }).length];
  };
  const sizes = {
    "take": await sizeOf(files.filter((name) => !ofTools(name) && !name.endsWith("worker.js"))),
    "fetch another": await sizeOf(files.filter(ofTools)),
  };
  t.diagnostic(JSON.stringify(sizes));
  // What only some pages need is in the other module: 390,000 for ONNX, 140,000 for GPTQ.
  const [size, compressed] = sizes.take;
  assert.ok(size > 100_000 && size <= 1_500_000, `${size} bytes`);
  assert.ok(compressed <= 550_000, `${compressed} bytes compressed`);
  for (const path of ["docs/browser.md", "web/README.md"]) {
    const text = (await readFile(join(root, path), "utf8")).replaceAll("\n", " ");
    for (const [words, [size, compressed]] of Object.entries(sizes)) {
      const told = new RegExp(`${words} ([\\d.]+) MB(?: together)?, ([\\d.]+) MB compressed`).exec(text);
      const [, whole, packed] = told ?? [];
      assert.ok(Math.abs(whole * 1e6 - size) <= 0.03 * size, `${path}: ${whole} MB, ${size} bytes`);
      assert.ok(Math.abs(packed * 1e6 - compressed) <= 0.03 * compressed, `${path}: ${packed} MB, ${compressed} bytes`);
    }
  }
});
