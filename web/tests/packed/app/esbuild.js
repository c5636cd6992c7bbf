// esbuild knows no `new URL(…, import.meta.url)`: its loader `file` says where the modules are.
import module from "dsconv/dsconv.wasm";
import tools from "dsconv/tools.wasm";
import { use } from "./use.js";

globalThis.used = use({ module, tools });
