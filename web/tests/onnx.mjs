// Writes small ONNX files (protocol buffers by their field numbers in onnx.proto), for tests.

const varint = (value) => {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return Buffer.from([...bytes, value]);
};
const number = (field, value) => Buffer.concat([varint(field * 8), varint(value)]);
const bytes = (field, value) => {
  const content = Buffer.from(value);
  return Buffer.concat([varint(field * 8 + 2), varint(content.length), content]);
};
const message = (field, ...parts) => bytes(field, Buffer.concat(parts));

const FLOAT = 1;
const value = (field, name, shape) => {
  const dims = shape.map((extent) => message(1, number(1, extent)));
  return message(field, bytes(1, name), message(2, message(1, number(1, FLOAT), message(2, ...dims))));
};

/** A network of nodes `{ type, inputs, output }` and of constants `{ name, shape, data }`, from `x` to `y`. */
export function onnx({ nodes, constants = [], input, output }) {
  const graph = message(
    7,
    ...nodes.map(({ type, inputs, output }) =>
      message(
        1,
        ...inputs.map((name) => bytes(1, name)),
        bytes(2, output),
        bytes(3, `the ${type} of ${output}`),
        bytes(4, type),
      ),
    ),
    bytes(2, "test"),
    ...constants.map(({ name, shape, data }) =>
      message(
        5,
        ...shape.map((extent) => number(1, extent)),
        number(2, FLOAT),
        bytes(8, name),
        bytes(9, Buffer.from(data.buffer)),
      ),
    ),
    value(11, "x", input),
    value(12, "y", output),
  );
  return Buffer.concat([number(1, 8), graph, message(8, number(2, 17))]);
}

/** Nodes that no library knows. */
export const unknown = () =>
  onnx({
    nodes: [
      { type: "Frobnicate", inputs: ["x"], output: "a" },
      { type: "Defenestrate", inputs: ["a"], output: "y" },
    ],
    input: [1, 3, 8, 8],
    output: [1, 3, 8, 8],
  });

/** Convolutions of 1x1 with so many channels that quantising them takes a while. */
export function large({ layers = 6, channels = 1024 } = {}) {
  const value = (index) => Math.sin(index * 12.9898);
  const names = ["x", ...Array.from({ length: layers - 1 }, (_, i) => `t${i}`), "y"];
  return onnx({
    nodes: Array.from({ length: layers }, (_, i) => {
      return { type: "Conv", inputs: [names[i], `w${i}`], output: names[i + 1] };
    }),
    constants: Array.from({ length: layers }, (_, i) => ({
      name: `w${i}`,
      shape: [channels, channels, 1, 1],
      data: Float32Array.from({ length: channels ** 2 }, (_, at) => value(at + i)),
    })),
    input: [1, channels, 4, 4],
    output: [1, channels, 4, 4],
  });
}

/** A classifier of pictures of 32 x 32 pixels: classes without names. */
export function classifier(classes = 10) {
  const data = Float32Array.from({ length: classes * 3 * 9 }, (_, at) => Math.sin(at * 12.9898));
  return onnx({
    nodes: [
      { type: "Conv", inputs: ["x", "w"], output: "a" },
      { type: "GlobalAveragePool", inputs: ["a"], output: "b" },
      { type: "Flatten", inputs: ["b"], output: "y" },
    ],
    constants: [{ name: "w", shape: [classes, 3, 3, 3], data }],
    input: [1, 3, 32, 32],
    output: [1, classes],
  });
}
