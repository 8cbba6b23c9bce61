/**
 * `<tusd-py-upload endpoint="...">`: the uploader, in any page.
 *
 * Attributes: `endpoint`; `lang` (`en`, `de`); `chunk-size` (`one`, `auto`, or bytes); `parallel`
 * (parts of a large file at the same time); `checksum` (`sha256`, `sha1`, `none`; of chunks);
 * `wait` (begin when a button is pressed, and not when a file is chosen); `drop-anywhere`.
 * Properties: `headers`, which every request gets, such as a token.
 * Events, which bubble: `upload-changed`, when the history has; `upload-finished`, with `name`,
 * `size` and `url` in its `detail`; `upload-unauthorized`, when the server does not know who sends
 * (401): what waits for it goes on once there are other `headers`.
 */

import Dashboard from "@uppy/dashboard";
import DropTarget from "@uppy/drop-target";
import { render } from "preact";
import type { Headers } from "./download.ts";
import { parseAlgorithm, parseChunk, parseParallel, type Settings } from "./settings.ts";
import { sheets } from "./styles.ts";
import { Uploader } from "./uploader.ts";
import { Below } from "./view/below.tsx";
import { nearest, type Spoken, speak } from "./words/index.ts";

const SHOWN_EVERY = 100; // milliseconds

export class UploadElement extends HTMLElement {
  static readonly observedAttributes = [
    "lang",
    "chunk-size",
    "parallel",
    "checksum",
    "wait",
  ];

  /** Once it is connected, and its language is there. */
  uploader: Uploader | undefined;
  #headers: Headers = {};
  #spoken: Spoken | undefined;
  #below: HTMLElement | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  get headers(): Headers {
    return this.#headers;
  }

  set headers(headers: Headers) {
    this.#headers = headers;
    if (this.uploader) this.uploader.headers = headers;
    this.#showLinks();
  }

  get settings(): Settings {
    return {
      chunk: parseChunk(this.getAttribute("chunk-size")),
      parallel: parseParallel(this.getAttribute("parallel")),
      algorithm: parseAlgorithm(this.getAttribute("checksum")),
      begins: !this.hasAttribute("wait"),
    };
  }

  connectedCallback(): void {
    // Set before this module was there, it is a property of the element's own, and hides ours.
    if (Object.hasOwn(this, "headers")) {
      const { headers } = this;
      delete (this as { headers?: Headers }).headers;
      this.headers = headers;
    }
    void this.#begin();
  }

  disconnectedCallback(): void {
    // It may only be on its way to another place in the page.
    queueMicrotask(() => {
      if (!this.isConnected) this.#end();
    });
  }

  attributeChangedCallback(name: string): void {
    if (name === "lang") void this.#speak();
    else this.uploader?.configure(this.settings);
  }

  get #language() {
    const asked = this.lang || document.documentElement.lang;
    return nearest(asked || navigator.languages);
  }

  async #begin(): Promise<void> {
    if (this.uploader) return;
    const spoken = await speak(this.#language);
    if (this.uploader || !this.isConnected) return;
    this.#spoken = spoken;
    const root = this.shadowRoot ?? this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = await sheets();
    const endpoint = this.getAttribute("endpoint");
    if (endpoint === null) {
      root.textContent = spoken.words.endpointMissing;
      return;
    }
    const above = document.createElement("div");
    this.#below = document.createElement("div");
    root.replaceChildren(above, this.#below);
    const url = new URL(endpoint, document.baseURI).href;
    const uploader = new Uploader(url, this.settings, spoken, {
      changed: () => this.#show(),
      unknown: () =>
        this.dispatchEvent(new CustomEvent("upload-unauthorized", { bubbles: true })),
    });
    this.uploader = uploader;
    uploader.headers = this.#headers;
    uploader.uppy.use(Dashboard, {
      inline: true,
      target: above,
      width: "100%",
      height: 420,
      theme: "auto",
      fileManagerSelectionType: "both",
      proudlyDisplayPoweredByUppy: false,
      hideProgressDetails: false,
    });
    this.#showLinks();
    if (this.hasAttribute("drop-anywhere")) {
      uploader.uppy.use(DropTarget, { target: document.body });
    }
    uploader.uppy.on("upload-success", (file, response) => {
      if (!file) return;
      const detail = { name: file.name, size: file.size, url: response.uploadURL };
      this.dispatchEvent(new CustomEvent("upload-finished", { detail, bubbles: true }));
    });
    uploader.uppy.on("state-update", () => this.#show());
    await uploader.start();
    this.#show();
    void this.#loadMore(uploader);
  }

  /** What is not needed to begin. */
  async #loadMore(uploader: Uploader): Promise<void> {
    const [{ default: ImageEditor }, { default: Webcam }] = await Promise.all([
      import("@uppy/image-editor"),
      import("@uppy/webcam"),
    ]);
    if (this.uploader !== uploader) return;
    uploader.uppy.use(ImageEditor, {});
    // A browser gives no camera to a page that came over plain http from another machine.
    if (navigator.mediaDevices) uploader.uppy.use(Webcam, { mobileNativeCamera: true });
  }

  /** Those of the dashboard; they can send no headers. */
  #showLinks(): void {
    const showLinkToFileUploadResult = Object.keys(this.#headers).length === 0;
    this.uploader?.uppy.getPlugin("Dashboard")?.setOptions({ showLinkToFileUploadResult });
  }

  async #speak(): Promise<void> {
    if (!this.uploader) return;
    const spoken = await speak(this.#language);
    this.#spoken = spoken;
    this.uploader?.speak(spoken);
    this.#show();
  }

  #show(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      const { uploader } = this;
      if (!uploader || !this.#below || !this.#spoken) return;
      // Uppy's list of a few files has items that say they are some, and does not say it is a list.
      this.shadowRoot?.querySelector(".uppy-Dashboard-files")?.setAttribute("role", "list");
      render(<Below uploader={uploader} words={this.#spoken.words} />, this.#below);
      this.dispatchEvent(new CustomEvent("upload-changed", { bubbles: true }));
    }, SHOWN_EVERY);
  }

  #end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#below) render(null, this.#below);
    this.uploader?.destroy();
    this.uploader = undefined;
  }
}

customElements.define("tusd-py-upload", UploadElement);
