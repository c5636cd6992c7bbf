// A page whose content security policy forbids workers of blobs.
import module from "dsconv/dsconv.wasm";
import { use } from "./use.js";

globalThis.used = use({ module, worker: () => new Worker("/worker.js") });
