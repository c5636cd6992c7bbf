// The worker in which quantize() works: one request, one answer.
import { quantize } from "./module/dsconv_web.js";
import { DsconvError } from "./errors.js";
import { called, start } from "./module.js";
import type { Answer, Request } from "./quantize.js";

const answer = (answer: Answer, transfer: Transferable[] = []): void =>
  (self as unknown as Worker).postMessage(answer, transfer);

self.onmessage = async ({ data }: MessageEvent<Request>) => {
  const { onnx, spec, pictures, module } = data;
  try {
    await start(module);
    const progress = (done: number, total: number, layer: string): void => answer({ progress: [done, total, layer] });
    const { model, layers } = await called(() => quantize(onnx, spec, pictures, progress));
    const bytes = model as Uint8Array<ArrayBuffer>;
    answer({ model: bytes, layers }, [bytes.buffer]);
  } catch (error) {
    const code = error instanceof DsconvError ? error.code : undefined;
    answer({ code, message: error instanceof Error ? error.message : String(error) });
  }
};
