// What every way of using the package must come to: a network quantised in the package's worker, and run; and the ONNX
// file as it is, which a worker reads too.
import { Device, Network, quantize } from "dsconv";

/** The network's outputs on a constant. `module` and the rest are given where they are not found by themselves. */
export async function use({ module, ...tools } = {}) {
  const device = await Device.open({ module });
  const response = await fetch("/small.onnx");
  const { model, layers } = await quantize(await response.blob(), { bits: 4, blockSize: 8, ...tools });
  const network = await Network.load(device, model);
  const [{ data, shape }] = await network.run({ data: new Float32Array(80).fill(0.5), shape: [1, 5, 4, 4] });
  network.dispose();
  const floats = await Network.load(device, "/small.onnx", tools);
  device.dispose();
  return { layers: layers.length, bits: floats.layers[0].bits, shape, data: Array.from(data) };
}
