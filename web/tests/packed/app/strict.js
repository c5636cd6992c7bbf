// A page whose content security policy forbids workers of blobs.
import module from "dsconv/dsconv.wasm";
import tools from "dsconv/tools.wasm";
import { use } from "./use.js";

globalThis.used = use({ module, tools, worker: () => new Worker("/worker.js") });
