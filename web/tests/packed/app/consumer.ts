// A consumer's program, which is only type-checked: the package as one would use it.
import {
  Device,
  type DeviceOptions,
  DsconvError,
  type ErrorCode,
  Layer,
  type LoadProgress,
  Network,
  NoWebGpuError,
  type Picture,
  type Quantized,
  type Tensor,
  type ToolsOptions,
  quantize,
} from "dsconv";
import wasm from "dsconv/dsconv.wasm";
import toolsWasm from "dsconv/tools.wasm";

const options: DeviceOptions = { powerPreference: "low-power", module: new URL("https://example.org/dsconv.wasm") };
const tools: ToolsOptions = { tools: toolsWasm, worker: () => new Worker("/worker.js") };
const onProgress: LoadProgress = (loaded, total) => console.log(loaded, total ?? "unknown");

export async function label(picture: Picture): Promise<string | undefined> {
  try {
    using device = await Device.open(options).catch((error: unknown) => {
      if (error instanceof NoWebGpuError) return Device.cpu(tools);
      throw error;
    });
    using network = await Network.load(device, "/model.safetensors", { activations: "int8", onProgress });
    const { classes } = await network.classify(picture, { top: 1 });
    return classes[0]?.label;
  } catch (error) {
    const code: ErrorCode | undefined = error instanceof DsconvError ? error.code : undefined;
    throw new Error(code);
  }
}

export async function file(onnx: Blob, pictures: Blob[]): Promise<Blob> {
  const { model }: Quantized = await quantize(onnx, { bits: 3, calibration: pictures });
  return new Blob([model]);
}

export async function layer(device: Device): Promise<Tensor> {
  const geometry = { inChannels: 8, outChannels: 4, kernel: [1, 1] as const };
  const made = await Layer.fromFloats(device, geometry, { weights: new Float32Array(32), bits: 4, blockSize: 8 });
  return made.run(new Float32Array(32), [1, 8, 2, 2]);
}

/** With a bundler that gives a file its address. */
export const opened = (): Promise<Device> => Device.open({ module: wasm });

// @ts-expect-error There are 2 to 8 bits, as a number.
export const wrong = quantize(new Uint8Array(), { bits: "4" });
