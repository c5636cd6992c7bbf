// The page: wires its controls to the session.
import "@fontsource-variable/instrument-sans/wght.css";
import { NoWebGpuError, type Device } from "dsconv";
import { clearAnswer, settle, showAnswer, showPicture, showWorking } from "./answer.js";
import { clearProfile, showProfile } from "./chart.js";
import { byId, make, notify, staircase } from "./dom.js";
import { deviceName, showMemory, showTime } from "./facts.js";
import { keepPage, model } from "./offline.js";
import { quantiseForm, take, type OwnModel } from "./own.js";
import { MODELS, PICTURES } from "./samples.js";
import { Session, type Model, type Picture } from "./session.js";
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
const pick = byId<HTMLInputElement>("pick");
const stage = byId("stage");

let device: Device | undefined;

function chip(state: "ready" | "missing", text: string): void {
  deviceChip.dataset.state = state;
  document.body.dataset.gpu = state;
  chipText.textContent = text;
}

const models: Model[] = MODELS.map(({ bits, url }) => ({
  name: `${bits} bits`,
  bits,
  source: (signal) => model(url, signal),
}));
const initial = models.find(({ bits }) => bits === 4) ?? models[0]!;

const session = new Session(initial, {
  opened(opened) {
    device = opened;
    chip("ready", "");
    void deviceName(opened).then((name) => device === opened && chip("ready", name));
  },
  loading(wanted, loaded, total) {
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
    choose(session.model);
    byId("lead-bits").textContent = String(wanted.bits);
    showMemory(network);
    clearProfile();
    measure.textContent = "Measure";
    settle();
    // In software it takes a while: there it waits for its button.
    if (device && !device.software) session.measure();
  },
  classifying(picture) {
    measure.disabled = true;
    showWorking(`Looking at ${picture.name}`);
  },
  answered(picture, answer, network, first) {
    notify(notice);
    measure.disabled = false;
    showAnswer(picture, answer);
    // Now with what the run needed.
    showMemory(network);
    if (device) showTime(answer.milliseconds, device, first);
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
  failed(error, step, again) {
    loading.hidden = true;
    measure.disabled = !device;
    measure.textContent = "Measure";
    if (step === "classify") clearAnswer();
    else settle();
    choose(session.model);
    const missing = error instanceof NoWebGpuError;
    if (step === "open") chip("missing", missing ? "No WebGPU" : "No GPU");
    const anyway = missing ? " Quantising your own network works without it, below." : "";
    notify(notice, inWords(error) + anyway, { name: "Try again", run: again });
  },
  lost(message) {
    device = undefined;
    measure.disabled = true;
    loading.hidden = true;
    settle();
    chip("missing", "The GPU is gone");
    notify(notice, `The browser took the GPU away${message ? ` (${message})` : ""}. Nothing of yours is lost.`, {
      name: "Start it again",
      run: () => session.restart(),
    });
  },
});

/** Marks the network that runs. */
function choose(wanted: Model): void {
  const at = models.indexOf(wanted);
  const radio = choices.querySelector<HTMLInputElement>(`input[value="${at}"]`);
  if (radio) radio.checked = true;
}

/** A choice of the switch. */
function addChoice(wanted: Model): void {
  const at = models.indexOf(wanted);
  const radio = make("input", {
    type: "radio",
    name: "model",
    value: String(at),
    checked: wanted === initial,
    onchange: () => session.use(wanted),
  });
  const name = make("span", { className: "choice-name" }, wanted.name);
  choices.append(make("label", { className: "choice", title: wanted.name }, radio, name, staircase(wanted.bits)));
}

/** Adds a network that was quantised here, in place of the one before, and runs it. */
function useOwn({ name, bits, bytes: file }: OwnModel): void {
  const own: Model = { name, bits, source: () => Promise.resolve(file) };
  const before = MODELS.length;
  models.splice(before, 1, own);
  choices.querySelector(`input[value="${before}"]`)?.closest("label")?.remove();
  addChoice(own);
  choose(own);
  session.use(own);
  stage.focus();
}

/** Shows a picture and has it classified; marks the sample that it is. */
async function look(name: string, alt: string, file: Blob, sample?: number): Promise<void> {
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    notify(notice, `${name} is not a picture that this browser can read.`);
    return;
  }
  notify(notice);
  for (const [at, button] of [...samples.children].entries()) {
    button.setAttribute("aria-pressed", String(at === sample));
  }
  const picture: Picture = { name, bitmap };
  showPicture({ url: URL.createObjectURL(file), alt });
  session.classify(picture);
}

async function lookAtSample(at: number): Promise<void> {
  const { name, url, alt } = PICTURES[at]!;
  try {
    const response = await fetch(url);
    if (!response.ok) throw new TypeError("network");
    await look(name, alt, await response.blob(), at);
  } catch (error) {
    notify(notice, inWords(error));
  }
}

/** A file that was dropped or picked: a network or a picture, by its name. */
function takeFile(file: File): void {
  if (/\.onnx$/i.test(file.name)) {
    take(file);
    byId("own").scrollIntoView({ behavior: "smooth" });
    return;
  }
  void look(file.name, `Your picture ${file.name}`, file);
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
pick.addEventListener("change", () => {
  const [file] = pick.files ?? [];
  if (file) takeFile(file);
  pick.value = "";
});
quantiseForm(useOwn);

// The whole page takes files.
let over = 0;
const dragging = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
const mark = (depth: number) => {
  over = depth;
  document.body.classList.toggle("dragging", over > 0);
};
addEventListener("dragenter", (event) => dragging(event) && mark(over + 1));
addEventListener("dragleave", (event) => dragging(event) && mark(Math.max(over - 1, 0)));
addEventListener("dragover", (event) => dragging(event) && event.preventDefault());
addEventListener("drop", (event) => {
  mark(0);
  const [file] = event.dataTransfer?.files ?? [];
  if (!file) return;
  event.preventDefault();
  takeFile(file);
});

void lookAtSample(0);
void keepPage(MODELS.map(({ url }) => url), () => {
  byId("offline").textContent = "This page works offline now.";
});
