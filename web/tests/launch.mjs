// Browsers for tests: BROWSER=chromium (the default) or firefox, at BROWSER_PATH if not where Debian has it.
import puppeteer from "puppeteer-core";

export const name = process.env.BROWSER ?? "chromium";

const BROWSERS = {
  chromium: {
    browser: "chrome",
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"],
    withoutWebGpu: { args: ["--no-sandbox", "--disable-features=WebGPU,WebGPUService"] },
    // What the message without WebGPU must name.
    enable: "chrome://flags/#enable-unsafe-webgpu",
    features: ["subgroups"],
  },
  firefox: {
    browser: "firefox",
    executablePath: "/usr/bin/firefox-esr",
    extraPrefsFirefox: { "dom.webgpu.enabled": true, "gfx.webgpu.ignore-blocklist": true },
    withoutWebGpu: { extraPrefsFirefox: { "dom.webgpu.enabled": false } },
    enable: "dom.webgpu.enabled",
    features: ["shader-f16"],
  },
};
const { withoutWebGpu, enable, features, ...settings } = BROWSERS[name];
if (process.env.BROWSER_PATH) settings.executablePath = process.env.BROWSER_PATH;

export { enable, features, withoutWebGpu };

/**
 * Starts the browser. Software compiles all pipelines of the golden cases in one call, which takes minutes on two
 * cores.
 */
export const launch = (more = {}) =>
  puppeteer.launch({ headless: true, protocolTimeout: 900_000, ...settings, ...more });

export const TYPES = {
  ".css": "text/css",
  ".html": "text/html",
  ".jpg": "image/jpeg",
  ".js": "text/javascript",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};
