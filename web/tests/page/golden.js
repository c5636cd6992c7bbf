// Golden cases (tests/golden/README.md) through the package, on every kernel that takes them.
import { Device, InvalidInputError, Layer, UnsupportedError } from "/dist/index.js";
import { countBuffers, rawDevice } from "./gpu.js";
import { convolve, dequantize, quantizeInput } from "./oracle.js";

/** The bounds of the native tests, as shares of the largest sum of |w||x|. */
const FLOAT_BOUND = 4e-6;
const ORACLE_BOUND = 1e-12;
/** Of halves in memory: three roundings to 11 bits. */
const HALF_BOUND = 2e-3;

const TYPES = { F32: Float32Array, F64: Float64Array, I8: Int8Array };

/** Tensors and metadata of a safetensors file. */
async function read(name) {
  const response = await fetch(`/golden/${name}`);
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  const bytes = await response.arrayBuffer();
  const start = 8 + Number(new DataView(bytes).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 8, start - 8)));
  const { __metadata__: metadata, ...entries } = header;
  const tensors = {};
  for (const [tensor, { dtype, shape, data_offsets: [from, to] }] of Object.entries(entries)) {
    tensors[tensor] = { data: new TYPES[dtype](bytes.slice(start + from, start + to)), shape };
  }
  return { meta: JSON.parse(metadata.case), tensors };
}

/** The readings of a case: weights and the output that they must give. */
function checks({ meta, tensors }) {
  const found = [];
  for (const [reading, tensor] of [[null, "y"], ["output", "y_cds_output"], ["kernel", "y_cds_weight"]]) {
    if (!tensors[tensor]) continue;
    for (const partition of ["even", "fixed"]) {
      // Without a tensor of its own, the fixed partition must give the same.
      const y = (partition === "fixed" && tensors[`${tensor}_fixed`]) || tensors[tensor];
      const cds = reading && { reading, scale: tensors.cdsw.data, shift: tensors.cdsb.data };
      const weights = {
        q: tensors.q.data,
        alpha: tensors.alpha.data,
        bits: meta.bits,
        blockSize: meta.block_size,
        partition,
        ...(tensors.kds && { kdsBias: tensors.kds.data }),
        ...(tensors.bias && { bias: tensors.bias.data }),
        ...(cds && { cds }),
      };
      found.push({ reading: `${reading ?? "plain"} ${partition}`, weights, y: y.data });
    }
  }
  if (found.length === 0) throw new Error("tensor y is missing");
  return found;
}

function worst(y, expected, magnitude) {
  if (y.length !== expected.length) throw new Error(`expected ${expected.length} elements, got ${y.length}`);
  let largest = 0;
  for (let i = 0; i < y.length; i += 1) {
    const error = Math.abs(y[i] - expected[i]);
    if (!(error <= largest)) largest = Number.isNaN(error) ? Infinity : error;
  }
  return largest === 0 ? 0 : largest / magnitude;
}

/** Every kernel with each input that it takes, and the package's own choice. */
const RUNS = [
  [undefined, "f32"],
  ["conv_direct", "f32"],
  ["conv_gemm", "f32"],
  ["conv_gemm_wide", "f32"],
  ["conv_subgroup", "f32"],
  ["conv_depthwise", "f32"],
  ["conv_depthwise_window", "f32"],
  ["conv_depthwise_nhwc", "f32"],
  [undefined, "int8"],
  ["conv_gemm", "int8"],
  ["conv_gemm_wide", "int8"],
  ["conv_gemm_int8", "int8"],
  ["conv_gemm_int8_unsigned", "int8"],
  ["conv_subgroup_int8", "int8"],
];

/** Whether a kernel must take such a layer in a browser: wgpu has no subgroups there. */
function takes(kernel, inputFormat, integers, meta) {
  switch (kernel) {
    // It is for channels-last tensors, and these are planar.
    case "conv_depthwise_nhwc":
    case "conv_subgroup":
    case "conv_subgroup_int8":
      return false;
    case "conv_depthwise":
      return !integers && meta.in_channels === meta.groups;
    case "conv_depthwise_window": {
      const [[size, width], [stride, across]] = [meta.kernel, meta.stride];
      const regular = size === width && stride === across && meta.dilation.every((d) => d === 1);
      const known = [3, 5, 7].includes(size) && [1, 2].includes(stride);
      return !integers && meta.in_channels === meta.groups && regular && known;
    }
    default:
      return integers || inputFormat === "f32";
  }
}

/** Runs a case on every kernel, with packed weights and with floats. Gives the number of runs and the worst error. */
async function runCase(device, name) {
  const golden = await read(name);
  const { meta, tensors } = golden;
  const geometry = {
    inChannels: meta.in_channels,
    outChannels: meta.out_channels,
    kernel: meta.kernel,
    stride: meta.stride,
    padding: meta.pads,
    dilation: meta.dilation,
    groups: meta.groups,
  };
  const { data: x, shape } = tensors.x;
  const result = { runs: 0, halves: 0, worst: 0, failures: [] };
  const judge = (what, error, bound) => {
    result.worst = Math.max(result.worst, error);
    if (!(error <= bound)) result.failures.push(`${name} ${what}: error ${error}, bound ${bound}`);
  };
  for (const { reading, weights, y } of checks(golden)) {
    const floats = dequantize(geometry, weights);
    const oracle = convolve(geometry, floats, x, shape);
    const oracleError = worst(oracle.values, y, oracle.magnitude);
    if (!(oracleError <= ORACLE_BOUND)) result.failures.push(`${name} oracle ${reading}: error ${oracleError}`);
    const ofIntegers = convolve(geometry, floats, quantizeInput(geometry, weights, x, shape), shape);
    const f32 = { weights: Float32Array.from(floats.values), bias: Float32Array.from(floats.bias) };
    await runHalves(device, `${name} ${reading}`, geometry, weights, [x, shape], y, oracle.magnitude, result);
    for (const integers of [true, false]) {
      for (const [kernel, inputFormat] of RUNS) {
        const int8 = inputFormat === "int8";
        const options = { ...(kernel && { kernel }), inputFormat };
        const what = `${kernel ?? "chosen"} ${integers ? `i${meta.bits}` : "f32"} ${inputFormat} input ${reading}`;
        let layer;
        try {
          layer = integers
            ? await Layer.fromIntegers(device, geometry, weights, options)
            : await Layer.fromFloats(device, geometry, f32, options);
        } catch (error) {
          const refused = error instanceof UnsupportedError;
          if (!refused || takes(kernel, inputFormat, integers, meta)) result.failures.push(`${name} ${what}: ${error}`);
          continue;
        }
        if (!takes(kernel, inputFormat, integers, meta)) result.failures.push(`${name} ${what}: was not refused`);
        const output = await layer.run(x, shape);
        layer.dispose();
        result.runs += 1;
        const expected = int8 ? ofIntegers : { values: y, magnitude: oracle.magnitude };
        const bound = meta.exact && !int8 ? 0 : FLOAT_BOUND;
        judge(what, worst(output.data, expected.values, expected.magnitude), bound);
      }
    }
  }
  return result;
}

/** The chosen kernel with halves in memory: inputs, scales and outputs are rounded. Tensors of them may be refused. */
async function runHalves(device, what, geometry, weights, [x, shape], y, magnitude, result) {
  for (const [floatFormat, scaleFormat] of [["f16", "f32"], ["f32", "f16"], ["f16", "f16"]]) {
    const named = `${what}, ${floatFormat} tensors, ${scaleFormat} scales`;
    const wanted = floatFormat === "f32" || device.shaderF16;
    try {
      const layer = await Layer.fromIntegers(device, geometry, weights, { floatFormat, scaleFormat });
      const output = await layer.run(x, shape);
      layer.dispose();
      const error = worst(output.data, y, magnitude);
      if (!wanted) result.failures.push(`${named}: was not refused`);
      if (!(error <= HALF_BOUND)) result.failures.push(`${named}: error ${error}, bound ${HALF_BOUND}`);
      result.halves += 1;
    } catch (error) {
      if (wanted || !(error instanceof UnsupportedError)) result.failures.push(`${named}: ${error}`);
    }
  }
}

/** Runs all the cases on one device. */
export async function runGolden(names) {
  const device = await Device.open();
  const { packedDotProduct, shaderF16 } = device;
  const total = { cases: 0, runs: 0, halves: 0, worst: 0, failures: [], packedDotProduct, shaderF16 };
  for (const name of names) {
    const { runs, halves, worst: error, failures } = await runCase(device, name);
    total.cases += 1;
    total.runs += runs;
    total.halves += halves;
    total.worst = Math.max(total.worst, error);
    total.failures.push(...failures);
  }
  device.dispose();
  return total;
}

/** The same layer again and again: live bytes of the GPU and of the module after each run. */
export async function memoryOverRuns(runs) {
  const count = countBuffers();
  const device = await Device.open();
  const geometry = { inChannels: 16, outChannels: 24, kernel: [3, 3], padding: [1, 1, 1, 1] };
  const weights = { weights: new Float32Array(24 * 16 * 9).map((_, i) => Math.sin(i)), bits: 4, blockSize: 8 };
  const x = new Float32Array(16 * 20 * 20).map((_, i) => Math.cos(i));
  const before = count.live();
  const during = [];
  const after = [];
  let first;
  for (let run = 0; run < runs; run += 1) {
    // Both inputs, so that integer activations are freed too.
    const options = { inputFormat: run % 2 === 0 ? "f32" : "int8" };
    const layer = await Layer.fromFloats(device, geometry, weights, options);
    during.push(count.live() - before);
    const held = layer.memoryUse;
    if (held !== during.at(-1)) throw new Error(`memoryUse says ${held}, ${during.at(-1)} are live`);
    const { data } = await layer.run(x, [1, 16, 20, 20]);
    if (count.live() - before !== held) throw new Error(`a run left ${count.live() - before - held} bytes`);
    first ??= data;
    if (run % 2 === 0 && data.some((value, i) => value !== first[i])) throw new Error("runs differ");
    layer.dispose();
    layer.dispose();
    after.push(count.live() - before);
  }
  device.dispose();
  return { during, after, created: count.created() };
}

/** A device that goes away: errors say so, and a new device with the layer made again gives the same. */
export async function deviceLost() {
  const raw = rawDevice();
  const geometry = { inChannels: 8, outChannels: 8, kernel: [1, 1] };
  const weights = { weights: new Float32Array(64).map((_, i) => Math.sin(i)), bits: 8, blockSize: 8 };
  const x = new Float32Array(8 * 9).map((_, i) => Math.cos(i));
  const shape = [1, 8, 3, 3];
  const make = async () => {
    const device = await Device.open();
    return [device, await Layer.fromFloats(device, geometry, weights)];
  };
  const codes = [];
  const fails = async (what, promise) => {
    codes.push(await promise.then(() => `${what}: no error`, (error) => `${what}: ${error.name} ${error.code}`));
  };
  const [device, layer] = await make();
  const first = await layer.run(x, shape);
  // In the middle of a run, then with the loss known.
  const running = layer.run(x, shape);
  raw().destroy();
  await fails("running", running);
  const lost = await device.lost;
  await fails("run", layer.run(x, shape));
  await fails("layer", Layer.fromFloats(device, geometry, weights));
  layer.dispose();
  const [secondDevice, secondLayer] = await make();
  const second = await secondLayer.run(x, shape);
  const same = second.data.every((value, i) => value === first.data[i]);
  secondDevice.dispose();
  await fails("disposed", secondLayer.run(x, shape));
  return { codes, message: typeof lost.message, same };
}

/** Bad input of every kind: the class, the code and words of the message. */
export async function badInput() {
  const device = await Device.open();
  const geometry = { inChannels: 8, outChannels: 4, kernel: [1, 1] };
  const integers = { q: new Int8Array(32), alpha: new Float32Array(4), bits: 4, blockSize: 8 };
  const floats = { weights: new Float32Array(32) };
  const layer = await Layer.fromIntegers(device, geometry, integers);
  const x = new Float32Array(32);
  const cases = {
    "bits|2..=8|9": () => Layer.fromIntegers(device, geometry, { ...integers, bits: 9 }),
    "bits|u8|-1": () => Layer.fromIntegers(device, geometry, { ...integers, bits: -1 }),
    "q|Int8Array|Array": () => Layer.fromIntegers(device, geometry, { ...integers, q: [1, 2] }),
    "q|32|31": () => Layer.fromIntegers(device, geometry, { ...integers, q: new Int8Array(31) }),
    "q[0]|-8..=7|8": () => Layer.fromIntegers(device, geometry, { ...integers, q: new Int8Array(32).fill(8) }),
    "alpha|Float32Array|undefined": () => Layer.fromIntegers(device, geometry, { ...integers, alpha: undefined }),
    "alpha[0]|NaN": () => Layer.fromIntegers(device, geometry, { ...integers, alpha: new Float32Array(4).fill(NaN) }),
    "partition|odd": () => Layer.fromIntegers(device, geometry, { ...integers, partition: "odd" }),
    "cds.scale|Float32Array": () => Layer.fromIntegers(device, geometry, { ...integers, cds: { reading: "output" } }),
    "geometry|strides": () => Layer.fromFloats(device, { ...geometry, strides: [1, 1] }, floats),
    "geometry.kernel": () => Layer.fromFloats(device, { ...geometry, kernel: [1] }, floats),
    "geometry.inChannels|8.5": () => Layer.fromFloats(device, { ...geometry, inChannels: 8.5 }, floats),
    "inChannels": () => Layer.fromFloats(device, { outChannels: 4, kernel: [1, 1] }, floats),
    "options.activation": () => Layer.fromFloats(device, geometry, floats, { activation: "tanh" }),
    "options.kernel|conv_gemm|fastest": () => Layer.fromFloats(device, geometry, floats, { kernel: "fastest" }),
    "blockSize": () => Layer.fromFloats(device, geometry, { ...floats, bits: 4 }),
    "weight|32|33": () => Layer.fromFloats(device, geometry, { weights: new Float32Array(33) }),
    "shape|batch": () => layer.run(x, [1, 8, 2]),
    "shape|whole numbers|2.5": () => layer.run(x, [1, 8, 2, 2.5]),
    "shape|whole numbers|-1": () => layer.run(x, [1, 8, -1, 2]),
    "input channels|8|7": () => layer.run(x, [1, 7, 2, 2]),
    "input|32|31": () => layer.run(new Float32Array(31), [1, 8, 2, 2]),
    "input|Float32Array|Array": () => layer.run([1, 2], [1, 8, 2, 2]),
    "residual|0|16": () => layer.run(x, [1, 8, 2, 2], new Float32Array(16)),
    "powerPreference|medium": () => Device.open({ powerPreference: "medium" }),
    "layer|disposed": () => {
      layer.dispose();
      return layer.run(x, [1, 8, 2, 2]);
    },
  };
  const wrong = [];
  for (const [words, run] of Object.entries(cases)) {
    const error = await run().then(() => null, (error) => error);
    const right =
      error instanceof InvalidInputError &&
      error.code === "invalid-input" &&
      words.split("|").every((word) => error.message.includes(word));
    if (!right) wrong.push(`${words}: ${error}`);
  }
  device.dispose();
  return { count: Object.keys(cases).length, wrong };
}

/** What opening a device says where it can't. */
export async function openFails() {
  return Device.open().then(
    () => null,
    (error) => ({ name: error.name, code: error.code, message: error.message, isError: error instanceof Error }),
  );
}
