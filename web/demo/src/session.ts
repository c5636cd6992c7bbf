// What is open: a device and a network on it. One thing runs at a time.
import { type Classification, Device, DeviceLostError, Network, NoWebGpuError, type Profile } from "dsconv";

/** A network to run: where it comes from is asked when it is loaded. */
export interface Model {
  readonly name: string;
  /** Bits of its integer weights, where they are known before it is loaded. */
  readonly bits: number | undefined;
  /** Bytes of its file. */
  readonly size: number;
  /** Whether it is the visitor's, and not the page's. */
  readonly own: boolean;
  readonly source: (signal: AbortSignal) => Promise<Response | File | Uint8Array>;
}

/** A picture to classify. */
export interface Picture {
  readonly name: string;
  readonly bitmap: ImageBitmap;
}

/** What happens, in the order in which it happens. */
export interface Watcher {
  /** `missing` says why it is the processor. */
  opened(device: Device, missing?: NoWebGpuError): void;
  /** Bytes that came, of how many where that is known. */
  loading(model: Model, loaded: number, total?: number): void;
  loaded(model: Model, network: Network): void;
  /** The network that runs was chosen again while another was loading. */
  kept(): void;
  classifying(picture: Picture): void;
  /** `first` of this network, which waits for its kernels to be compiled. */
  answered(picture: Picture, answer: Classification, network: Network, first: boolean): void;
  /** `done` models of the comparison are done. */
  comparing(model: Model, done: number): void;
  compared(model: Model, answer: Classification): void;
  /** The comparison is over, whether or not all of it is there. */
  settled(): void;
  measuring(): void;
  measured(profile: Profile, network: Network): void;
  /** What was wanted of the model is not to be had; what was there before still is. `again` wants it once more. */
  failed(error: unknown, what: { step: Step; model: Model }, again: () => void): void;
  lost(message: string): void;
}

type Step = "open" | "load" | "classify" | "compare" | "measure";

/** More than any network here has: the comparison looks at all classes. */
const ALL = 100_000;

/**
 * A device, a network on it and a picture in it. The page says what it wants; one loop goes there step by step,
 * so that clicks while it works are neither lost nor done twice.
 */
export class Session {
  readonly #watcher: Watcher;
  #device: Device | undefined;
  #network: { model: Model; network: Network } | undefined;
  /** What the last answer was for. */
  #answered: { picture: Picture; network: Network } | undefined;
  #model: Model;
  #picture: Picture | undefined;
  #measure = false;
  #compare: readonly Model[] | undefined;
  /** The last comparison that was begun. */
  #compared: readonly Model[] | undefined;
  #loading: AbortController | undefined;
  #comparing: AbortController | undefined;
  #running = false;
  /** No step is tried again by itself after an error. */
  #halted = false;

  constructor(model: Model, watcher: Watcher) {
    this.#model = model;
    this.#watcher = watcher;
  }

  /** The network that is wanted: after an error, the one that runs. */
  get model(): Model {
    return this.#model;
  }

  /** Wants another network. */
  use(model: Model): void {
    if (model !== this.#model) this.#abort();
    this.#model = model;
    this.#go();
  }

  /** Wants a picture classified. */
  classify(picture: Picture): void {
    this.#comparing?.abort();
    this.#picture = picture;
    this.#go();
  }

  /** Wants what each of the models says of the picture. */
  compare(models: readonly Model[]): void {
    this.#compare = models;
    this.#go();
  }

  /** Wants each layer's time. */
  measure(): void {
    this.#measure = true;
    this.#go();
  }

  /** Goes on after a lost device. */
  restart(): void {
    this.#go();
  }

  #abort(): void {
    this.#loading?.abort();
    this.#comparing?.abort();
  }

  #go(): void {
    this.#halted = false;
    if (!this.#running) void this.#run();
  }

  async #run(): Promise<void> {
    this.#running = true;
    while (!this.#halted && (await this.#step()));
    this.#running = false;
  }

  /** Does the next thing that is missing; answers whether there was any. */
  async #step(): Promise<boolean> {
    if (!this.#device) return this.#try("open", () => this.#open());
    const device = this.#device;
    if (this.#network?.model !== this.#model) return this.#try("load", () => this.#load(device, this.#model));
    const { network } = this.#network;
    const picture = this.#picture;
    if (picture && (this.#answered?.picture !== picture || this.#answered.network !== network)) {
      return this.#try("classify", async () => {
        this.#watcher.classifying(picture);
        const answer = await network.classify(picture.bitmap, { top: ALL });
        const first = this.#answered?.network !== network;
        this.#answered = { picture, network };
        this.#watcher.answered(picture, answer, network, first);
      });
    }
    if (picture && this.#compare) {
      const models = this.#compare;
      this.#compared = models;
      this.#compare = undefined;
      return this.#try("compare", () => this.#runAll(device, models, picture));
    }
    if (picture && this.#measure) {
      this.#measure = false;
      return this.#try("measure", async () => {
        this.#watcher.measuring();
        this.#watcher.measured(await network.profile(picture.bitmap), network);
      });
    }
    return false;
  }

  async #try(step: Step, run: () => Promise<void>): Promise<boolean> {
    const device = this.#device;
    const model = this.#model;
    try {
      await run();
      return true;
    } catch (error) {
      this.#halted = true;
      if (device && error instanceof DeviceLostError) this.#gone(device, error.message);
      // Then there is nothing to add.
      if (device !== this.#device) return false;
      if (step === "load" && this.#network) this.#model = this.#network.model;
      this.#watcher.failed(error, { step, model }, () => {
        if (step === "measure") this.#measure = true;
        if (step === "compare") this.#compare = this.#compared;
        this.use(model);
      });
      return false;
    }
  }

  async #open(): Promise<void> {
    let missing: NoWebGpuError | undefined;
    const device = await Device.open({ powerPreference: "high-performance" }).catch((error: unknown) => {
      if (!(error instanceof NoWebGpuError)) throw error;
      missing = error;
      return Device.cpu();
    });
    this.#device = device;
    this.#watcher.opened(device, missing);
    void device.lost.then(({ message }) => this.#gone(device, message));
  }

  /** A device is lost, with what was on it. An error may tell so before the device does. */
  #gone(device: Device, message: string): void {
    if (this.#device !== device) return;
    this.#device = undefined;
    this.#network = undefined;
    this.#halted = true;
    this.#abort();
    this.#watcher.lost(message);
  }

  async #load(device: Device, model: Model): Promise<void> {
    const loading = new AbortController();
    this.#loading = loading;
    const onProgress = (loaded: number, total?: number) => {
      if (!loading.signal.aborted) this.#watcher.loading(model, loaded, total);
    };
    onProgress(0);
    let network: Network;
    try {
      const source = await model.source(loading.signal);
      network = await Network.load(device, source, { onProgress, signal: loading.signal });
    } catch (error) {
      if (!loading.signal.aborted) throw error;
      // Another model was chosen meanwhile, or the device is gone.
      if (this.#network?.model === this.#model) this.#watcher.kept();
      return;
    } finally {
      this.#loading = undefined;
    }
    if (this.#device !== device) return network.dispose();
    this.#network?.network.dispose();
    this.#network = { model, network };
    this.#watcher.loaded(model, network);
  }

  /** One model after the other on the same picture, until something else is wanted. */
  async #runAll(device: Device, models: readonly Model[], picture: Picture): Promise<void> {
    const comparing = new AbortController();
    const { signal } = comparing;
    this.#comparing = comparing;
    try {
      for (const [done, model] of models.entries()) {
        this.#watcher.comparing(model, done);
        const source = await model.source(signal);
        const network = await Network.load(device, source, { signal });
        try {
          // The first run compiles. In software it takes so long that the time of a second is not worth the wait.
          let answer = await network.classify(picture.bitmap, { top: ALL });
          if (!device.software && !signal.aborted) answer = await network.classify(picture.bitmap, { top: ALL });
          if (signal.aborted) return;
          this.#watcher.compared(model, answer);
        } finally {
          network.dispose();
        }
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      this.#comparing = undefined;
      this.#watcher.settled();
    }
  }
}
