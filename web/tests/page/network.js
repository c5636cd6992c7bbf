// Whole networks through the package.
import * as dsconv from "dsconv";
import { Device, DsconvError, Layer, Network, quantize } from "dsconv";
import initModule from "/dist/module/dsconv_web.js";
import { countBuffers, rawDevice } from "./gpu.js";
import { random } from "./random.js";

const MODEL = "/models/efficientnet-lite0-i4.safetensors";
const SMALL = "/data/small.onnx";

const openOn = (kind) => (kind === "cpu" ? Device.cpu() : Device.open());
const bytesOf = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
const blobOf = async (path) => (await fetch(path)).blob();
const bitmapOf = async (name) => createImageBitmap(await blobOf(`/pictures/${name}.jpg`));
const described = (error) => ({ name: error.name, code: error.code, message: error.message });
const refusal = (promise) => promise.then(() => null, described);

async function base64(blob) {
  const reader = new FileReader();
  reader.readAsDataURL(blob);
  await new Promise((resolve) => reader.addEventListener("load", resolve));
  return reader.result.split(",")[1];
}

/** The pixels that the browser has decoded, as PNG and as they are. */
async function decoded(name) {
  const bitmap = await bitmapOf(name);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const image = context.getImageData(0, 0, bitmap.width, bitmap.height);
  return { bitmap, canvas, image, png: await base64(await canvas.convertToBlob()) };
}

/** Answers on pictures, with what they are as PNG for the command. */
export async function classify({ names, activations, kind }) {
  const device = await openOn(kind);
  const network = await Network.load(device, MODEL, { activations });
  const answers = [];
  for (const name of names) {
    const { bitmap, png } = await decoded(name);
    const { classes, milliseconds } = await network.classify(bitmap);
    answers.push({ name, png, classes, milliseconds });
  }
  const { inputs, outputs, labels, layers, memoryUse } = network;
  device.dispose();
  return { answers, inputs, outputs, labels, layers, memoryUse };
}

/** A picture in every form there is: what differs from the first, of a small network at `model`. */
export async function forms({ name, model }) {
  const device = await Device.open();
  const network = await Network.load(device, model);
  const { bitmap, canvas, image } = await decoded(name);
  const element = new Image();
  element.src = `/pictures/${name}.jpg`;
  const onPage = document.createElement("canvas");
  [onPage.width, onPage.height] = [image.width, image.height];
  onPage.getContext("2d").putImageData(image, 0, 0);
  const { data, width, height } = image;
  const blob = await blobOf(`/pictures/${name}.jpg`);
  const forms = { bitmap, canvas, image, element, onPage, blob, pixels: { data, width, height } };
  const answers = {};
  for (const [form, picture] of Object.entries(forms)) {
    answers[form] = (await network.classify(picture, { top: 3 })).classes;
  }
  device.dispose();
  return answers;
}

/** What the small network gives for each tensor, one after the other and then all at once, then for the first again. */
export async function runTensors({ tensors, kind }) {
  const device = await openOn(kind);
  const network = await Network.load(device, SMALL);
  const given = tensors.map(({ data, shape }) => ({ data: Float32Array.from(data), shape }));
  const one = async (tensor) => {
    const [output, ...more] = await network.run(tensor);
    if (more.length > 0 || !(output.data instanceof Float32Array)) throw new Error("expected one tensor of floats");
    return { data: [...output.data], shape: output.shape };
  };
  const inTurn = [];
  for (const tensor of given) inTurn.push(await one(tensor));
  const atOnce = await Promise.all(given.map((tensor) => one([tensor])));
  atOnce.push(await one(given[0]));
  const expected = JSON.stringify([...inTurn, inTurn[0]]);
  const { inputs, outputs, layers } = network;
  device.dispose();
  return { outputs: inTurn, same: JSON.stringify(atOnce) === expected, inputs, ends: outputs, layers };
}

/** The same inputs in floats and in integers. */
export async function runInt8({ model, data, shape }) {
  const device = await Device.open();
  const bytes = Uint8Array.fromBase64?.(model) ?? Uint8Array.from(atob(model), (c) => c.charCodeAt(0));
  const outputs = {};
  for (const activations of ["f32", "int8"]) {
    const network = await Network.load(device, bytes, { activations });
    outputs[activations] = [...(await network.run({ data: Float32Array.from(data), shape }))[0].data];
  }
  const { packedDotProduct } = device;
  device.dispose();
  return { ...outputs, packedDotProduct };
}

/** A quantised network as base64, and what was told on the way. */
export async function quantized({ source, options, pictures = [] }) {
  const decodings = await Promise.all(pictures.map(decoded));
  const told = [];
  let ticks = 0;
  const timer = setInterval(() => (ticks += 1), 10);
  const { model, layers } = await quantize(await bytesOf(source), {
    ...options,
    calibration: decodings.map(({ bitmap }) => bitmap),
    onProgress: (...progress) => told.push(progress),
  });
  clearInterval(timer);
  return { model: await base64(new Blob([model])), layers, told, ticks, pngs: decodings.map(({ png }) => png) };
}

/** Ends a quantisation that would take long, by its first word of progress in calibration. */
export async function abortQuantize() {
  const controller = new AbortController();
  const picture = await bitmapOf("rocket");
  const workers = [];
  let after = 0;
  const started = quantize(await bytesOf(MODEL), {
    calibration: [picture, picture, picture],
    signal: controller.signal,
    worker: () => {
      const worker = new Worker("/dist/worker.js", { type: "module" });
      const { terminate } = worker;
      worker.terminate = () => {
        workers.push("terminated");
        terminate.call(worker);
      };
      return worker;
    },
    onProgress: () => {
      if (controller.signal.aborted) after += 1;
      controller.abort(new Error("enough"));
    },
  });
  const message = await started.then(() => null, (error) => error.message);
  const already = await quantize(new Uint8Array(), { signal: controller.signal }).then(() => null, (e) => e.message);
  return { message, workers, after, already };
}

/** Progress of every kind of source, and whether all give the same network. */
export async function sources() {
  const device = await Device.open();
  const bytes = await bytesOf(MODEL);
  const url = new URL(MODEL, location.href);
  const all = {
    string: MODEL,
    url,
    request: new Request(url),
    response: await fetch(url),
    blob: new Blob([bytes]),
    buffer: bytes.buffer,
    bytes,
  };
  const told = {};
  const layers = new Set();
  for (const [name, source] of Object.entries(all)) {
    told[name] = [];
    const network = await Network.load(device, source, { onProgress: (...progress) => told[name].push(progress) });
    layers.add(JSON.stringify(network.layers));
    network.dispose();
  }
  const missing = await refusal(Network.load(device, "/models/nothing.onnx"));
  const nowhere = await refusal(Network.load(device, "http://localhost:1/model"));
  const controller = new AbortController();
  const aborted = await Network.load(device, "/trickle", {
    signal: controller.signal,
    onProgress: () => controller.abort(new Error("enough")),
  }).then(() => null, (error) => error.message);
  device.dispose();
  return { size: bytes.length, told, layers: layers.size, missing, nowhere, aborted };
}

/** Files that are no models, and what is said of each. */
export async function wrongFiles() {
  const device = await Device.open();
  const pointer = new Blob(["version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"]);
  const sources = {
    jpeg: "/pictures/coffee.jpg",
    page: "/",
    empty: new Uint8Array(),
    pointer: new File([pointer], "model.safetensors"),
    zip: new Uint8Array([0x50, 0x4b, 3, 4, 0, 0]).buffer,
  };
  const said = {};
  for (const [name, source] of Object.entries(sources)) said[name] = await refusal(Network.load(device, source));
  device.dispose();
  return { ...said, quantize: await refusal(quantize(await blobOf("/pictures/coffee.jpg"))) };
}

/** What a caller throws and aborts in the middle of a call is the caller's. */
export async function callersOwn() {
  const count = countBuffers();
  const device = await Device.open();
  const before = count.live();
  const bytes = await bytesOf(SMALL);
  const mine = new Error("mine");
  const onProgress = () => {
    throw mine;
  };
  const isMine = (promise) => promise.then(() => "no error", (error) => (error === mine ? "mine" : String(error)));
  const thrown = {};
  for (const [name, source] of Object.entries({ url: SMALL, blob: new Blob([bytes]), bytes })) {
    thrown[name] = await isMine(Network.load(device, source, { onProgress }));
  }
  thrown.quantize = await isMine(quantize(bytes, { onProgress }));
  const aborted = {};
  for (const [name, source] of Object.entries({ url: SMALL, bytes })) {
    const controller = new AbortController();
    const onProgress = (loaded, total) => loaded === total && controller.abort(mine);
    aborted[name] = await isMine(Network.load(device, source, { onProgress, signal: controller.signal }));
  }
  // Behind the download, while the network goes to the device.
  const controller = new AbortController();
  const { createBuffer } = GPUDevice.prototype;
  GPUDevice.prototype.createBuffer = function (descriptor) {
    controller.abort(mine);
    return createBuffer.call(this, descriptor);
  };
  aborted.device = await isMine(Network.load(device, bytes, { signal: controller.signal }));
  GPUDevice.prototype.createBuffer = createBuffer;
  const left = count.live() - before;
  device.dispose();
  return { thrown, aborted, left };
}

/** A network disposed of while its calls wait for their pictures. */
export async function disposedInBetween() {
  const count = countBuffers();
  const device = await Device.open();
  const before = count.live();
  const blob = await blobOf("/pictures/coffee.jpg");
  const whole = await Network.load(device, MODEL);
  const expected = await whole.classify(blob);
  const calls = [whole.classify(blob), whole.profile(blob)];
  whole.dispose();
  const [{ classes }, { steps }] = await Promise.all(calls);
  const left = count.live() - before;
  const after = await refusal(whole.classify(blob));
  device.dispose();
  return { same: JSON.stringify(classes) === JSON.stringify(expected.classes), steps: steps.length, left, after };
}

/** A module that fails in the middle of a call, and what becomes of everything that it made. */
export async function failedModule() {
  const device = await Device.open();
  const { model: bytes } = await quantize(await bytesOf(SMALL), { bits: 3, blockSize: 8 });
  const network = await Network.load(device, bytes);
  const x = { data: new Float32Array(80).map((_, i) => Math.cos(i)), shape: [1, 5, 4, 4] };
  const [first] = await network.run(x);
  const waiting = refusal(network.run(x));
  // As a trap is: it leaves the module in the middle of what it did.
  const { createBuffer } = GPUDevice.prototype;
  GPUDevice.prototype.createBuffer = () => {
    throw new WebAssembly.RuntimeError("unreachable");
  };
  const failed = await refusal(Network.load(device, bytes));
  GPUDevice.prototype.createBuffer = createBuffer;
  const said = { failed, waiting: await waiting, run: await refusal(network.run(x)) };
  said.load = await refusal(Network.load(device, bytes));
  said.lost = await device.lost;
  network.dispose();
  device.dispose();
  const again = await Device.open();
  const [second] = await (await Network.load(again, bytes)).run(x);
  again.dispose();
  return { ...said, same: second.data.every((value, i) => value === first.data[i]) };
}

/** A module that fails where no memory is left for a fresh one, until there is some again. */
export async function deadModule() {
  const device = await Device.open();
  const { model: bytes } = await quantize(await bytesOf(SMALL), { bits: 3, blockSize: 8 });
  const network = await Network.load(device, bytes);
  const x = { data: new Float32Array(80).fill(0.5), shape: [1, 5, 4, 4] };
  const waiting = refusal(network.run(x));
  const { Instance } = WebAssembly;
  const { createBuffer } = GPUDevice.prototype;
  WebAssembly.Instance = function () {
    throw new RangeError("no memory");
  };
  GPUDevice.prototype.createBuffer = () => {
    throw new WebAssembly.RuntimeError("unreachable");
  };
  const failed = await refusal(Network.load(device, bytes));
  GPUDevice.prototype.createBuffer = createBuffer;
  const said = { failed, waiting: await waiting, open: await refusal(Device.open()) };
  WebAssembly.Instance = Instance;
  const again = await Device.open();
  const [{ shape }] = await (await Network.load(again, bytes)).run(x);
  again.dispose();
  return { ...said, shape };
}

/** Damaged models: each is an error of this package or a network, and the module lives on. */
export async function hostile({ seed, rounds }) {
  const device = await Device.open();
  const small = await bytesOf(SMALL);
  const { model } = await quantize(small, { bits: 3, blockSize: 8 });
  const next = random(seed);
  const counts = { refused: 0, loaded: 0 };
  const wrong = [];
  const tensor = { data: new Float32Array(5 * 16).fill(0.5), shape: [1, 5, 4, 4] };
  const attempt = async (what, bytes) => {
    try {
      const network = await Network.load(device, bytes);
      counts.loaded += 1;
      await network.run(tensor).catch((error) => {
        if (!(error instanceof DsconvError) || error.code === "internal") throw error;
      });
      network.dispose();
    } catch (error) {
      counts.refused += 1;
      if (!(error instanceof DsconvError) || error.code === "internal") wrong.push(`${what}: ${error}`);
    }
  };
  for (const [name, whole] of Object.entries({ small, model })) {
    for (let length = 0; length < whole.length; length += Math.ceil(whole.length / rounds)) {
      await attempt(`${name} cut to ${length}`, whole.slice(0, length));
    }
    for (let round = 0; round < rounds; round += 1) {
      const bytes = whole.slice();
      const flips = 1 + (next() % 4);
      // The beginning holds the structure.
      const among = round % 2 ? whole.length : Math.min(whole.length, 1500);
      for (let flip = 0; flip < flips; flip += 1) bytes[next() % among] ^= 1 << next() % 8;
      await attempt(`${name}, round ${round}`, bytes);
    }
  }
  const noise = Uint8Array.from({ length: 1000 }, () => next());
  await attempt("noise", noise);
  // A header that says it is longer than memory.
  await attempt("long header", Uint8Array.of(255, 255, 255, 255, 0, 0, 0, 0, 123, 125));
  const inWorker = await refusal(quantize(noise));
  const text = String.fromCharCode(...small).replace("Relu", "Rule").replace("Mul", "Mux");
  const unsupported = await refusal(Network.load(device, Uint8Array.from(text, (c) => c.charCodeAt(0))));
  const [{ data }] = await (await Network.load(device, small)).run(tensor);
  device.dispose();
  return { counts, wrong, inWorker, unsupported, alive: data.every(Number.isFinite) };
}

/** Bad arguments of every kind: the class and words of the message. */
export async function badInput() {
  const device = await Device.open();
  const small = await bytesOf(SMALL);
  const network = await Network.load(device, small);
  const x = { data: new Float32Array(80), shape: [1, 5, 4, 4] };
  const picture = { data: new Uint8ClampedArray(16), width: 2, height: 2 };
  const blob = new Blob(["<svg>"], { type: "image/svg+xml" });
  const elsewhere = new Image();
  elsewhere.src = "/data/small.onnx";
  const cases = {
    "source|URL|7": () => Network.load(device, 7),
    "source|nobody reads": async () => {
      const response = new Response(small);
      response.body.getReader();
      return Network.load(device, response);
    },
    "activations|f32|f16": () => Network.load(device, small, { activations: "f16" }),
    "inputs|1|2": () => network.run([x, x]),
    "inputs[0].data|Float32Array|Array": () => network.run({ ...x, data: [1] }),
    "x|elements|79": () => network.run({ ...x, data: new Float32Array(79) }),
    "shape|whole numbers|4.5": () => network.run({ ...x, shape: [1, 5, 4.5, 4] }),
    "x|5": () => network.run({ ...x, shape: [1, 4, 5, 4] }),
    "input|a picture": () => network.classify(picture),
    "picture|a picture|null": () => network.classify(null),
    "picture|ImageBitmap|coffee.jpg": () => network.classify("coffee.jpg"),
    "picture|Blob|Response": () => network.classify(new Response()),
    "picture|decodes|XML": () => network.classify(blob),
    "picture.data|16 bytes|15": () => network.classify({ ...picture, data: new Uint8ClampedArray(15) }),
    "picture.data|Uint8ClampedArray|Array": () => network.classify({ ...picture, data: [1] }),
    "picture|image that can be shown": () => network.classify(elsewhere),
    "top|above 0|0": () => network.classify(picture, { top: 0 }),
    "bits|2..=8|9": () => quantize(small, { bits: 9 }),
    "blockSize|u32|-1": () => quantize(small, { blockSize: -1 }),
    "method|best": () => quantize(small, { method: "best" }),
    "pattern|nothing*": () => quantize(small, { keepFloat: ["nothing*"] }),
    "preprocessing.fit|crop": () => quantize(small, { preprocessing: { fit: "crap" } }),
    "mean|3": () =>
      quantize(small, { preprocessing: { size: [4, 4], fit: "stretch", mean: [0], std: [1] } }),
    "block|blockSize|unknown": () => quantize(small, { block: 8 }),
    "input|a picture, (N": () => quantize(small, { calibration: [picture] }),
    "network|disposed": () => {
      network.dispose();
      return network.run(x);
    },
  };
  const wrong = [];
  for (const [words, run] of Object.entries(cases)) {
    const error = await run().then(() => null, (error) => error);
    const right =
      error instanceof dsconv.InvalidInputError && words.split("|").every((word) => error.message.includes(word));
    if (!right) wrong.push(`${words}: ${error}`);
  }
  device.dispose();
  return { count: Object.keys(cases).length, wrong };
}

/** A network loaded, run and disposed of again and again: bytes of the GPU, and of the module's memory. */
export async function memoryOverRuns(runs) {
  const count = countBuffers();
  const device = await Device.open();
  const { memory } = await initModule();
  const { model } = await quantize(await bytesOf(SMALL), { bits: 3, blockSize: 8 });
  const before = count.live();
  const during = new Set();
  const after = new Set();
  const sizes = [];
  for (let run = 0; run < runs; run += 1) {
    const network = await Network.load(device, model, { activations: run % 2 ? "f32" : "int8" });
    // Another size must free the first one's.
    for (const height of [8, 4]) {
      await network.run({ data: new Float32Array(5 * height * 4).fill(1), shape: [1, 5, height, 4] });
    }
    during.add(count.live() - before);
    if (network.memoryUse.total !== count.live() - before) {
      throw new Error(`memoryUse says ${network.memoryUse.total}, ${count.live() - before} are live`);
    }
    // Freed behind the run that is under way.
    const last = network.run({ data: new Float32Array(80), shape: [1, 5, 4, 4] });
    network.dispose();
    network.dispose();
    await last;
    if (network.memoryUse.total !== 0) throw new Error("memory is used behind the end");
    after.add(count.live() - before);
    sizes.push(memory.buffer.byteLength);
  }
  device.dispose();
  return { during: [...during], after: [...after], sizes, created: count.created() };
}

/** A device that goes away in the middle of a run, and the network on a new one. */
export async function deviceLost() {
  const raw = rawDevice();
  const bytes = await bytesOf(SMALL);
  const x = { data: new Float32Array(80).map((_, i) => Math.cos(i)), shape: [1, 5, 4, 4] };
  const codes = [];
  const fails = async (what, promise) => {
    codes.push(await promise.then(() => `${what}: no error`, (error) => `${what}: ${error.name} ${error.code}`));
  };
  const device = await Device.open();
  const network = await Network.load(device, bytes);
  const [first] = await network.run(x);
  const running = network.run(x);
  raw().destroy();
  await fails("running", running);
  await device.lost;
  await fails("run", network.run(x));
  await fails("load", Network.load(device, bytes));
  network.dispose();
  const again = await Device.open();
  const [second] = await (await Network.load(again, bytes)).run(x);
  again.dispose();
  return { codes, same: second.data.every((value, i) => value === first.data[i]) };
}

/** Where the time goes. */
export async function profile() {
  const device = await Device.open();
  const network = await Network.load(device, MODEL);
  const picture = await bitmapOf("coffee");
  const { steps, clock } = await network.profile(picture);
  const { milliseconds } = await network.classify(picture);
  const layers = network.layers.map(({ name }) => name);
  device.dispose();
  return { steps, clock, milliseconds, layers };
}

/** The processor as a device: what it is, what it refuses, whether the page stays live, and how it ends. */
export async function onProcessor() {
  const device = await Device.cpu();
  const { kind, software } = device;
  const network = await Network.load(device, MODEL);
  const picture = await bitmapOf("coffee");
  let ticks = 0;
  const timer = setInterval(() => (ticks += 1), 10);
  const { steps, clock } = await network.profile(picture);
  clearInterval(timer);
  const weights = { weights: new Float32Array(9) };
  const geometry = { inChannels: 1, outChannels: 1, kernel: [3, 3] };
  const refused = {
    int8: await refusal(Network.load(device, SMALL, { activations: "int8" })),
    layer: await refusal(Layer.fromFloats(device, geometry, weights)),
    noise: await refusal(Network.load(device, Uint8Array.of(1, 2, 3))),
    shape: await refusal(network.run({ data: new Float32Array(4), shape: [1, 1, 2, 2] })),
  };
  // A call that has begun is finished.
  const last = network.classify(picture);
  network.dispose();
  const { classes } = await last;
  const other = await Network.load(device, SMALL);
  const x = { data: new Float32Array(80), shape: [1, 5, 4, 4] };
  const waiting = refusal(other.run(x));
  device.dispose();
  const [run, load] = [await refusal(other.run(x)), await refusal(Network.load(device, SMALL))];
  const ended = { waiting: await waiting, run, load };
  const [{ label }] = classes;
  const memory = network.memoryUse.total;
  return { kind, software, steps: steps.length, clock, ticks, refused, label, ended, lost: await device.lost, memory };
}

/** What a worker that can't be loaded, and a module that is none, are to whoever wants the processor. */
export async function noProcessor() {
  const worker = () => new Worker("/nothing.js");
  return [await refusal(Device.cpu({ tools: new Uint8Array(8) })), await refusal(Device.cpu({ worker }))];
}
