// esbuild knows no `new URL(…, import.meta.url)`: its loader `file` says where the module is.
import module from "dsconv/dsconv.wasm";
import { use } from "./use.js";

globalThis.used = use({ module });
