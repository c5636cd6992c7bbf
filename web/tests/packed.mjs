// The package as npm packs it, in what people build pages with: bundlers, an import map, workers, another origin,
// TypeScript, Node.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { TYPES, launch } from "./launch.mjs";

const web = fileURLToPath(new URL("..", import.meta.url));
const tools = join(web, "tests/packed");
const SMALL = join(web, "../net/tests/data/small.onnx");
const run = promisify(execFile);

/** A project that has installed the package from its tarball. */
let project;
let installed;
let browser;
let expected;
const closing = [];

before(async () => {
  await run("npm", ["ci", "--no-audit", "--no-fund"], { cwd: tools });
  project = await mkdtemp(join(tmpdir(), "dsconv-packed-"));
  closing.push(() => rm(project, { recursive: true }));
  const pack = ["pack", "--ignore-scripts", "--json", "--pack-destination", project];
  const { stdout } = await run("npm", pack, { cwd: web });
  installed = join(project, "node_modules/dsconv");
  await mkdir(installed, { recursive: true });
  await run("tar", ["xf", JSON.parse(stdout)[0].filename, "-C", installed, "--strip-components=1"], { cwd: project });
  for (const name of await readdir(join(tools, "node_modules"))) {
    await symlink(join(tools, "node_modules", name), join(project, "node_modules", name));
  }
  await cp(join(tools, "app"), join(project, "app"), { recursive: true });
  await writeFile(join(project, "package.json"), JSON.stringify({ private: true, type: "module" }));
  await mkdir(join(project, "public"));
  await cp(SMALL, join(project, "public/small.onnx"));
  await writeFile(join(project, "public/favicon.ico"), "");
  browser = await launch();
  closing.push(() => browser.close());
  // Without any tool; the others must come to the same.
  expected = await used(await serve(project, { "/": mapped("/app/page.js") }));
  assert.equal(expected.layers, 1);
  assert.deepEqual(expected.shape, [6, 16]);
  assert.equal(expected.bits, null);
  assert.ok(expected.data.some((value) => value !== 0) && expected.data.every(Number.isFinite));
});

after(async () => {
  for (const close of closing.reverse()) await close();
});

const page = (script, head = "") =>
  `<!doctype html><title>dsconv</title>${head}<script type="module" src="${script}"></script>`;
const map = (address) => `<script type="importmap">{ "imports": { "dsconv": "${address}" } }</script>`;
const mapped = (script, address = "/node_modules/dsconv/dist/index.js") => page(script, map(address));

/** Serves a folder, with pages of its own; every other origin may have what is in it. Gives its address. */
async function serve(folder, pages = {}, headers = {}) {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const cors = { "access-control-allow-origin": "*" };
    const answer = (type, body, more) => response.writeHead(200, { "content-type": type, ...more }).end(body);
    try {
      if (pathname === "/favicon.ico") return response.writeHead(204).end();
      if (pathname in pages) return answer("text/html", pages[pathname], headers);
      const body = await readFile(pathname === "/small.onnx" ? SMALL : join(folder, pathname));
      answer(TYPES[extname(pathname)] ?? "application/octet-stream", body, cors);
    } catch {
      response.writeHead(404, cors).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://localhost:${server.address().port}/`;
}

/** What a page that uses the package came to, and what it logged as errors or warnings. */
async function opened(address) {
  const tab = await browser.newPage();
  const problems = [];
  tab.on("pageerror", (error) => problems.push(String(error)));
  tab.on("console", (message) => {
    if (["error", "warn"].includes(message.type())) problems.push(`${message.text()} ${message.location().url ?? ""}`);
  });
  try {
    await tab.goto(address);
    // A development server may load the page again once it has found the package.
    await tab.waitForFunction(() => globalThis.used?.then(() => true, () => true), { timeout: 60_000 });
    const result = await tab.evaluate(() => globalThis.used.catch((error) => ({ error: String(error) })));
    return { result, problems };
  } finally {
    await tab.close();
  }
}

/** What a page that uses the package came to; whatever it logs fails. */
async function used(address) {
  const { result, problems } = await opened(address);
  assert.deepEqual(problems, [], JSON.stringify(result));
  assert.equal(result.error, undefined);
  return result;
}

/** A port that nobody listens at: Vite's clients are told the number beforehand. */
async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A tool's interface, as the project would import it. */
const tool = async (name, file = "") => {
  const folder = join(project, "node_modules", name);
  const { main, exports } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  const entry = file || exports?.["."]?.import?.default || exports?.["."]?.import || exports?.["."] || main;
  return import(pathToFileURL(join(folder, typeof entry === "string" ? entry : main)).href);
};

for (const version of [6, 7, 8]) {
  test(`Vite ${version}: its development server, and its build`, async () => {
    const { build, createServer: develop } = await tool(`vite-${version}`);
    const root = join(project, `vite-${version}`);
    await cp(join(project, "app"), root, { recursive: true });
    await symlink(join(project, "public"), join(root, "public"));
    await writeFile(join(root, "index.html"), page("/page.js"));
    await writeFile(join(root, "worker.html"), page("/in-worker.js"));
    const options = { root, configFile: false, logLevel: "error", base: "./", cacheDir: join(root, ".vite") };
    const server = await develop({ ...options, server: { port: await freePort() } });
    try {
      await server.listen();
      const { port } = server.httpServer.address();
      assert.deepEqual(await used(`http://localhost:${port}/`), expected);
      assert.deepEqual(await used(`http://localhost:${port}/worker.html`), expected);
    } finally {
      await server.close();
    }
    const input = [join(root, "index.html"), join(root, "worker.html")];
    await build({ ...options, worker: { format: "es" }, build: { target: "es2022", rollupOptions: { input } } });
    const address = await serve(join(root, "dist"), {
      "/": await readFile(join(root, "dist/index.html"), "utf8"),
      "/worker.html": await readFile(join(root, "dist/worker.html"), "utf8"),
    });
    assert.deepEqual(await used(address), expected);
    assert.deepEqual(await used(`${address}worker.html`), expected);
  });
}

test("webpack 5", async () => {
  const { default: webpack } = await tool("webpack");
  const compiler = webpack({
    mode: "production",
    context: project,
    entry: { page: "./app/page.js", worker: "./app/in-worker.js" },
    output: { path: join(project, "webpack"), filename: "[name].js" },
  });
  const stats = await promisify(compiler.run.bind(compiler))();
  await promisify(compiler.close.bind(compiler))();
  assert.deepEqual(stats.compilation.errors.map(String), []);
  const address = await serve(join(project, "webpack"), { "/": page("/page.js"), "/worker": page("/worker.js") });
  assert.deepEqual(await used(address), expected);
  assert.deepEqual(await used(`${address}worker`), expected);
});

/** Builds a page by esbuild, and gives its folder. */
async function esbuilt(name) {
  const { default: esbuild } = await tool("esbuild", "lib/main.js");
  const { errors, warnings } = await esbuild.build({
    absWorkingDir: project,
    entryPoints: [`app/${name}.js`],
    bundle: true,
    format: "esm",
    outdir: name,
    publicPath: "/",
    loader: { ".wasm": "file" },
    logLevel: "silent",
  });
  assert.deepEqual([errors, warnings], [[], []]);
  return join(project, name);
}

test("esbuild, under the content security policies of docs/bundlers.md", async () => {
  const text = await readFile(join(web, "../docs/bundlers.md"), "utf8");
  const policies = [...text.matchAll(/^```text\n(default-src [^`]+)```/gm)].map(([, policy]) => policy.trim());
  assert.equal(policies.length, 2);
  // The second forbids blobs, so the page gives the worker's file.
  for (const [at, name] of ["esbuild", "strict"].entries()) {
    const folder = await esbuilt(name);
    await cp(join(installed, "dist/worker.js"), join(folder, "worker.js"));
    const headers = { "content-security-policy": policies[at].replaceAll("\n", " ") };
    assert.deepEqual(await used(await serve(folder, { "/": page(`/${name}.js`) }, headers)), expected, name);
  }
  const headers = { "content-security-policy": policies[1].replaceAll("\n", " ") };
  const { result } = await opened(await serve(join(project, "esbuild"), { "/": page("/esbuild.js") }, headers));
  const told = /^LoadError: this package's worker could not be loaded.*`worker-src blob:`, pass `worker`$/;
  assert.match(result.error, told);
});

test("from another origin, as a content delivery network is one", async () => {
  const cdn = await serve(installed);
  const address = await serve(project, { "/": mapped("/app/page.js", `${cdn}dist/index.js`) });
  assert.deepEqual(await used(address), expected);
});

for (const version of ["5.7", "7.0"]) {
  for (const [resolution, module] of [["bundler", "es2022"], ["node16", "node16"]]) {
    test(`TypeScript ${version} with the resolution ${resolution}`, async () => {
      const compiler = join(project, `node_modules/typescript-${version}/bin/tsc`);
      const strict = ["--strict", "--exactOptionalPropertyTypes", "--noEmit"];
      const language = ["--target", "es2022", "--lib", "es2022,dom", "--typeRoots", "app"];
      const how = ["--moduleResolution", resolution, "--module", module];
      const command = [compiler, ...strict, ...language, ...how, "app/consumer.ts"];
      await run(process.execPath, command, { cwd: project }).catch(({ stdout }) => assert.fail(stdout));
    });
  }
}

test("Node imports it, and opens no device", async () => {
  const script = `
    import * as dsconv from "dsconv";
    globalThis.navigator ??= {};
    const refused = () => dsconv.Device.open().then(() => "opened", (error) => error.name + ": " + error.message);
    const plain = await refused();
    // As packages that bring WebGPU to Node do.
    Object.defineProperty(globalThis.navigator, "gpu", { value: { requestAdapter: async () => ({}) } });
    console.log(JSON.stringify({ names: Object.keys(dsconv).sort(), plain, brought: await refused() }));`;
  const { stdout } = await run(process.execPath, ["--input-type=module", "--eval", script], { cwd: project });
  const { names, plain, brought } = JSON.parse(stdout);
  assert.match(plain, /^NoWebGpuError: .*browser/);
  assert.equal(brought, plain);
  const errors = ["DeviceLost", "Dsconv", "Gpu", "Internal", "InvalidInput", "Limit", "Load", "NoWebGpu"];
  const classes = [...errors, "OutOfMemory", "Unsupported"].map((name) => `${name}Error`);
  assert.deepEqual(names, ["Device", "Layer", "Network", "quantize", ...classes].sort());
});

test("the tarball has what a package needs, and its exports are there", async () => {
  const files = await readdir(installed, { recursive: true });
  const wanted = ["README.md", "LICENSE-MIT", "LICENSE-APACHE", "THIRD-PARTY.md", "dist/index.js.map"];
  for (const file of wanted) {
    assert.ok(files.includes(file), file);
  }
  const notices = await readFile(join(installed, "THIRD-PARTY.md"), "utf8");
  for (const crate of ["wgpu", "serde_json", "matrixmultiply"]) {
    assert.match(notices, new RegExp(`^\\| ${crate} \\|`, "m"));
  }
  assert.ok(!/^\| (naga|clap) \|/m.test(notices), "what is not compiled in is listed");
  const { exports } = JSON.parse(await readFile(join(installed, "package.json"), "utf8"));
  const paths = Object.values(exports).flatMap((entry) => (typeof entry === "string" ? [entry] : Object.values(entry)));
  assert.ok(paths.length >= 7);
  for (const path of paths) assert.ok(files.includes(path.slice(2)), path);
});
