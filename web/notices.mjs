// Prints the licences of what is compiled into the WebAssembly modules, as Markdown, from what Cargo has downloaded.
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const cwd = fileURLToPath(new URL(".", import.meta.url));
const target = "wasm32-unknown-unknown";
const cargo = (...options) => execFileSync("cargo", options, { cwd, encoding: "utf8", maxBuffer: 2 ** 28 });
const { packages } = JSON.parse(cargo("metadata", "--format-version", "1", "--locked", "--filter-platform", target));

/** Name and version of what comes into the modules: macros and build scripts only work at it. */
const edges = ["-e", "normal,no-proc-macro", "--prefix", "none"];
const tree = cargo("tree", "--locked", "-p", "dsconv-web", "-p", "dsconv-web-tools", "--target", target, ...edges);
const compiled = new Set(tree.split("\n").map((line) => line.split(" ").slice(0, 2).join(" ")));
const crates = packages.filter(({ name, version, source }) => source !== null && compiled.has(`${name} v${version}`));
crates.sort((a, b) => a.name.localeCompare(b.name) || a.version.localeCompare(b.version));

/** The licence files of a crate; of MIT and others at one's option, MIT's. */
function textsOf({ manifest_path, license }) {
  const folder = dirname(manifest_path);
  const files = readdirSync(folder).filter((name) => /^(licen[cs]e|copying|notice|unlicense)/i.test(name));
  const mit = files.filter((name) => /mit/i.test(name));
  const chosen = /\bMIT\b/.test(license ?? "") && /\bOR\b|\//.test(license) && mit.length > 0 ? mit : files;
  return chosen
    .map((name) => join(folder, name))
    .filter((path) => !path.endsWith("licenses"))
    .map((path) => readFileSync(path, "utf8").replace(/\r/g, "").trim());
}

const texts = new Map();
const without = [];
for (const crate of crates) {
  const found = textsOf(crate);
  if (found.length === 0) without.push(crate.name);
  for (const text of found) {
    // Line breaks differ where the words do not.
    const key = text.replace(/\s+/g, " ");
    const entry = texts.get(key) ?? { text, names: [] };
    texts.set(key, { ...entry, names: [...entry.names, crate.name] });
  }
}

const lines = [
  "# Third-party notices",
  "",
  "The WebAssembly module of this package contains the Rust standard library (MIT or Apache-2.0, copyright the Rust",
  "project's contributors) and these crates:",
  "",
  "| crate | version | licence |",
  "|---|---|---|",
  ...crates.map(({ name, version, license }) => `| ${name} | ${version} | ${license ?? "in its file"} |`),
  "",
  ...(without.length > 0 ? [`No text of a licence comes with ${without.join(", ")}.`, ""] : []),
];
for (const { text, names } of texts.values()) lines.push(`## ${names.join(", ")}`, "", "```text", text, "```", "");
console.log(lines.join("\n"));
