// The page: wires its controls to the session.
import "@fontsource-variable/instrument-sans/wght.css";
import { type Class, type Classification, type Device, type Network } from "dsconv";
import { clearAnswer, settle, showAnswer, showPicture, showWorking } from "./answer.js";
import { clearProfile, showProfile } from "./chart.js";
import { type Compared, clearComparison, showComparison } from "./comparison.js";
import { byId, make, notify, staircase } from "./dom.js";
import { bitsOf, deviceName, showMemory, showTime } from "./facts.js";
import { decode, takeFiles } from "./files.js";
import { keepPage, model } from "./offline.js";
import { quantiseForm, take, type OwnModel } from "./own.js";
import { FLOAT_SIZE, MODELS, PICTURES, recordedFloats } from "./samples.js";
import { Session, type Model, type Picture } from "./session.js";
import { shareButton, showView, type View, viewOf } from "./share.js";
import { bytes, inWords } from "./words.js";

const notice = byId("notice");
const deviceChip = byId("device");
const chipText = byId("device-name");
const choices = byId("choices");
const loading = byId("loading");
const loadingBar = byId<HTMLProgressElement>("loading-bar");
const loadingText = byId("loading-text");
const measure = byId<HTMLButtonElement>("measure");
const samples = byId("samples");
const compare = byId<HTMLButtonElement>("compare");
const stage = byId("stage");
const enable = byId("enable");

let device: Device | undefined;
/** ImageNet's, from the first model that comes with the page. */
let labels: readonly string[] | undefined;
/** The sample that is looked at; none where the picture is one's own. */
let sample: (typeof PICTURES)[number] | undefined;
let ownPicture = false;
/** The network of one's own that was loaded last, and the one that the switch offers. */
let own: Model | undefined;
let offered: Model | undefined;
/** The picture that was classified last. */
let looked: Picture | undefined;
/** Pictures asked for: of those that come late, only the last is looked at. */
let asks = 0;
/** The comparison so far. */
let compared: Compared[] = [];

function chip(state: "ready" | "missing", text: string): void {
  deviceChip.dataset.state = state;
  document.body.dataset.gpu = state;
  chipText.textContent = text;
}

const models: readonly Model[] = MODELS.map(({ bits, url, size }) => ({
  name: `${bits} bits`,
  bits,
  size,
  own: false,
  source: (signal) => model(url, signal),
}));
const asked = viewOf(location.hash);
const initial = [asked.bits, 4].map((wanted) => models.find(({ bits }) => bits === wanted)).find(Boolean) ?? models[0]!;

/** ImageNet's names for a network that has none, and as many classes. */
function named(answer: Classification, network: Network): Classification {
  const { classes } = answer;
  if (network.labels || classes.length !== labels?.length) return answer;
  const name = (found: Class): Class => ({ ...found, label: labels?.[found.index] ?? found.label });
  return { ...answer, classes: classes.map(name) };
}

/** What is seen, of what comes with the page. */
function view(): View {
  return { picture: sample?.id, bits: session.model.own ? undefined : session.model.bits };
}

/** What is seen and is the visitor's own, which no link leads to. */
function ownParts(): string[] {
  return [ownPicture ? "picture" : "", session.model.own ? "network" : ""].filter(Boolean);
}

const session = new Session(initial, {
  opened(opened, missing) {
    device = opened;
    chip("ready", deviceName(opened));
    enable.hidden = !missing;
    enable.textContent = missing ? `It is faster on a GPU. ${inWords(missing)}` : "";
  },
  loading(wanted, loaded, total) {
    if (wanted.own) offer(wanted);
    choose(wanted);
    loading.hidden = false;
    if (total) {
      loadingBar.max = total;
      loadingBar.value = Math.min(loaded, total);
    } else loadingBar.removeAttribute("value");
    const all = loaded > 0 && loaded >= (total ?? Infinity);
    loadingText.textContent = all ? `Compiling ${wanted.name}` : `${wanted.name}: ${bytes(loaded)}`;
    showWorking(`Loading ${wanted.name}`);
  },
  loaded(wanted, network) {
    loading.hidden = true;
    notify(notice);
    if (wanted.own) own = wanted;
    choose(session.model);
    byId("lead-bits").textContent = String(bitsOf(network) ?? 32);
    if (!wanted.own) labels = network.labels;
    showView(view());
    showMemory(network, device);
    clearProfile();
    measure.textContent = "Measure";
    settle();
    // In software it takes a while: there it waits for its button.
    if (device && !device.software) session.measure();
  },
  kept() {
    loading.hidden = true;
    showView(view());
    settle();
  },
  classifying(picture) {
    measure.disabled = true;
    compare.disabled = true;
    // It holds for every network here, but for one picture.
    if (picture !== looked) {
      looked = picture;
      compared = [];
      compare.textContent = "Compare";
      clearComparison();
    }
    showWorking(`Looking at ${picture.name}`);
  },
  answered(picture, answer, network, first) {
    notify(notice);
    measure.disabled = false;
    compare.disabled = false;
    showAnswer(picture, named(answer, network));
    // Now with what the run needed.
    showMemory(network, device);
    if (device) showTime(answer.milliseconds, device, first);
  },
  comparing(wanted, done) {
    compare.disabled = true;
    compare.textContent = `${wanted.name}, ${done + 1} of ${MODELS.length}`;
    if (done > 0) return;
    compared = [];
    clearComparison();
    const floats = sample && recordedFloats(sample.id);
    if (!floats) return;
    const classes = floats.map(([index, score]) => ({ index, score, label: labels?.[index] ?? `class ${index}` }));
    compared.push({ name: "f32", classes, size: FLOAT_SIZE, time: undefined });
  },
  compared({ name, size }, { classes, milliseconds: time }) {
    compared.push({ name, classes, size, time });
    const all = MODELS.length + (compared[0]?.name === "f32" ? 1 : 0);
    showComparison(compared, all, device?.software ?? false);
  },
  settled() {
    compare.disabled = !device;
    // The recorded answer alone is none of this comparison.
    const any = compared.some(({ time }) => time !== undefined);
    compare.textContent = any ? "Compare again" : "Compare";
  },
  measuring() {
    measure.disabled = true;
    measure.textContent = "Measuring";
  },
  measured(profile, network) {
    measure.disabled = false;
    measure.textContent = "Measure again";
    showProfile(profile, network, device?.software ?? false);
  },
  failed(error, { step, model: wanted }, again) {
    loading.hidden = true;
    measure.disabled = !device;
    compare.disabled = !device;
    measure.textContent = "Measure";
    if (step === "classify") clearAnswer();
    else settle();
    if (step === "load") offer(own);
    choose(session.model);
    showView(view());
    if (step === "open") chip("missing", "No GPU");
    const name = step === "load" && wanted.own ? `${wanted.name}.safetensors: ` : "";
    notify(notice, name + inWords(error), { name: "Try again", run: again });
  },
  lost(message) {
    const gone = device;
    device = undefined;
    measure.disabled = true;
    compare.disabled = true;
    loading.hidden = true;
    settle();
    const what = gone?.kind === "cpu" ? "worker" : "GPU";
    chip("missing", `The ${what} is gone`);
    notify(notice, `The browser took the ${what} away${message ? ` (${message})` : ""}. Nothing of yours is lost.`, {
      name: "Start it again",
      run: () => session.restart(),
    });
  },
});

/** What the switch calls a network. */
const valueOf = (wanted: Model): string => (wanted.own ? "own" : String(models.indexOf(wanted)));

function radioOf(wanted: Model): HTMLInputElement | null {
  return choices.querySelector(`input[value="${valueOf(wanted)}"]`);
}

/** Marks the network that runs. */
function choose(wanted: Model): void {
  const radio = radioOf(wanted);
  if (radio) radio.checked = true;
}

/** Has a network run: what was told of the one before goes. */
function use(wanted: Model): void {
  notify(notice);
  choose(wanted);
  session.use(wanted);
}

/** A choice of the switch. */
function addChoice(wanted: Model): void {
  const radio = make("input", {
    type: "radio",
    name: "model",
    value: valueOf(wanted),
    checked: wanted === initial,
    onchange: () => use(wanted),
  });
  const name = make("span", { className: "choice-name" }, wanted.name);
  const size = make("span", { className: "choice-size" }, bytes(wanted.size));
  const steps = wanted.bits === undefined ? [] : [staircase(wanted.bits)];
  choices.append(make("label", { className: "choice", title: wanted.name }, radio, name, size, ...steps));
}

/** Has the switch offer a network of one's own in place of the one before, or none. */
function offer(wanted: Model | undefined): void {
  if (offered === wanted) return;
  if (offered) radioOf(offered)?.closest("label")?.remove();
  offered = wanted;
  if (wanted) addChoice(wanted);
}

/** Runs a network of one's own. */
function useOwn({ name, bits, size, file }: OwnModel): void {
  const made: Model = { name, bits, size, own: true, source: () => Promise.resolve(file) };
  offer(made);
  use(made);
  stage.focus();
}

/** Shows a picture and has it classified; marks the sample that it is. */
async function look(name: string, alt: string, file: Blob, at?: number): Promise<void> {
  const ask = ++asks;
  let bitmap: ImageBitmap;
  try {
    bitmap = await decode(file);
  } catch {
    if (ask === asks) notify(notice, `${name} is not a picture that this browser can read.`);
    return;
  }
  if (ask !== asks) return bitmap.close();
  notify(notice);
  for (const [place, button] of [...samples.children].entries()) {
    button.setAttribute("aria-pressed", String(place === at));
  }
  sample = at === undefined ? undefined : PICTURES[at];
  ownPicture = !sample;
  showView(view());
  const picture: Picture = { name, bitmap };
  showPicture({ url: URL.createObjectURL(file), alt });
  session.classify(picture);
}

async function lookAtSample(at: number): Promise<void> {
  const { name, url, alt } = PICTURES[at]!;
  const ask = ++asks;
  let file: Blob;
  try {
    const response = await fetch(url);
    if (!response.ok) throw new TypeError("network");
    file = await response.blob();
  } catch (error) {
    if (ask === asks) notify(notice, inWords(error));
    return;
  }
  if (ask === asks) await look(name, alt, file, at);
}

/** A file that was picked, dropped or pasted: a network or a picture, by its name. */
async function takeFile(file: File): Promise<void> {
  if (/\.safetensors$/i.test(file.name)) {
    const name = file.name.replace(/\.safetensors$/i, "");
    useOwn({ name, bits: undefined, file, size: file.size });
    return;
  }
  if (/\.onnx$/i.test(file.name)) {
    take(file);
    byId("own").scrollIntoView({ behavior: "smooth" });
    return;
  }
  await look(file.name, `Your picture ${file.name}`, file);
}

for (const [at, { name, url, alt }] of PICTURES.entries()) {
  const image = make("img", { src: url, alt: "", width: 96, height: 96 });
  const onclick = () => void lookAtSample(at);
  const button = make("button", { type: "button", title: alt, onclick, "aria-pressed": "false" });
  button.append(image, make("span", {}, name));
  samples.append(button);
}
for (const wanted of models) addChoice(wanted);
measure.addEventListener("click", () => session.measure());
quantiseForm(useOwn);

takeFiles((file) => void takeFile(file));
shareButton(byId<HTMLButtonElement>("share"), view, ownParts);
// Not as a link: the address is the view's.
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  stage.focus();
});
compare.addEventListener("click", () => session.compare(models));
addEventListener("hashchange", () => {
  const { picture, bits } = viewOf(location.hash);
  const at = PICTURES.findIndex(({ id }) => id === picture);
  const wanted = models.find((known) => known.bits === bits);
  if (at >= 0) void lookAtSample(at);
  if (wanted) use(wanted);
});

void lookAtSample(Math.max(PICTURES.findIndex(({ id }) => id === asked.picture), 0));
void keepPage(MODELS.map(({ url }) => url), () => {
  byId("offline").textContent = "This page works offline now.";
});
