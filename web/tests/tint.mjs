// Compiles WGSL with Tint: a line of standard input is a file and its overrides, separated by tabs.
// Dawn's null backend needs no GPU and no browser.
import { readFileSync } from "node:fs";

let dawn;
try {
  dawn = await import("webgpu");
} catch (error) {
  console.error(`${error.message}\nTint is missing: run \`npm ci\` in web/, or ./test, which does`);
  process.exit(1);
}
Object.assign(globalThis, dawn.globals);

const gpu = dawn.create(["backend=null"]);
const adapter = await gpu.requestAdapter();
const features = ["subgroups", "shader-f16"];
const missing = features.filter((feature) => !adapter?.features.has(feature));
if (missing.length > 0) {
  console.error(`Dawn's null adapter lacks ${missing.join(", ")}: shaders can't be checked`);
  process.exit(1);
}
const device = await adapter.requestDevice({ requiredFeatures: features });

const lines = readFileSync(0, "utf8").split("\n").filter(Boolean);
let refused = 0;
for (const line of lines) {
  const [path, ...overrides] = line.split("\t");
  const constants = Object.fromEntries(
    overrides.map((override) => override.split("=")).map(([name, value]) => [name, Number(value)]),
  );
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ code: readFileSync(path, "utf8") });
  const { messages } = await module.getCompilationInfo();
  device.createComputePipeline({ layout: "auto", compute: { module, constants } });
  const error = await device.popErrorScope();
  const problems = messages.map((m) => `${path}:${m.lineNum}:${m.linePos}: ${m.type}: ${m.message}`);
  if (error) problems.push(`${path} with ${overrides}: ${error.message}`);
  if (problems.length > 0) {
    console.error(problems.join("\n"));
    refused += 1;
  }
}
console.log(`${lines.length} pipelines, ${refused} refused`);
// Dawn keeps the process alive.
process.exit(refused > 0 ? 1 : 0);
