// The package inside a worker of the page's own, whose own worker quantises.
const worker = new Worker(new URL("./own-worker.js", import.meta.url), { type: "module" });
globalThis.used = new Promise((resolve, reject) => {
  worker.onmessage = ({ data }) => ("error" in data ? reject(new Error(data.error)) : resolve(data));
  worker.onerror = ({ message }) => reject(new Error(`the worker failed: ${message}`));
});
