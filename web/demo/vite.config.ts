// The build of the page: static files, and a service worker that knows them.
import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { defineConfig, type Plugin } from "vite";

/** Tells the service worker which files make the page: all but the models, which are kept when used. */
function precache(): Plugin {
  return {
    name: "precache",
    apply: "build",
    enforce: "post",
    generateBundle(_, bundle) {
      const worker = bundle["service.js"];
      if (worker?.type !== "chunk") throw new Error("there is no service.js to tell of the page's files");
      const hash = createHash("sha256");
      const files = Object.keys(bundle)
        .filter((file) => file !== worker.fileName && !file.endsWith(".safetensors"))
        .sort();
      for (const file of files) {
        const item = bundle[file]!;
        hash.update(file).update(item.type === "chunk" ? item.code : item.source);
      }
      // The page's own address is its folder.
      const addresses = files.map((file) => (file === "index.html" ? "./" : `./${file}`));
      worker.code = worker.code
        .replace(/\bFILES\b/, JSON.stringify(addresses))
        .replace(/\bVERSION\b/, JSON.stringify(hash.digest("hex").slice(0, 12)));
    },
  };
}

/** Makes `import bytes from "file?size"` the file's size. */
function sizes(): Plugin {
  return {
    name: "sizes",
    enforce: "pre",
    resolveId: (id, importer) =>
      id.endsWith("?size") && importer ? `\0${resolve(dirname(importer), id)}` : undefined,
    load: (id) =>
      id.startsWith("\0") && id.endsWith("?size")
        ? `export default ${statSync(id.slice(1, -"?size".length)).size};`
        : undefined,
  };
}

export default defineConfig({
  // Any folder of any static host.
  base: "./",
  plugins: [sizes(), precache()],
  // The package finds its module beside its own files.
  optimizeDeps: { exclude: ["dsconv"] },
  server: { fs: { allow: ["../.."] } },
  assetsInclude: ["**/*.safetensors"],
  build: {
    target: "es2022",
    rollupOptions: {
      input: { index: "index.html", service: "src/worker/service.ts" },
      output: { entryFileNames: ({ name }) => (name === "service" ? "service.js" : "assets/[name]-[hash].js") },
    },
  },
});
