/**
 * Uppy, put together for a tus server that never loses a byte it acknowledged.
 *
 * The rules:
 * - What is removed here is removed on the server, too, also what was broken off before a reload.
 * - An upload is remembered from the moment it has a URL until it is removed; see `history.ts`.
 * - Of two tabs one keeps the files over a reload: they would overwrite each other's.
 */

import Uppy, { type Body, type Meta, type UppyFile } from "@uppy/core";
import GoldenRetriever from "@uppy/golden-retriever";
import Tus from "@uppy/tus";
import type { DetailedError } from "tus-js-client";
import { download, type Headers } from "./download.ts";
import {
  explain,
  failureOf,
  isPaused,
  isWorthAnotherTry,
  RETRY_DELAYS,
  UNKNOWN,
} from "./errors.ts";
import { type Entry, History } from "./history.ts";
import { PARALLEL_FROM, type Settings } from "./settings.ts";
import { ChunkSize } from "./wire/chunks.ts";
import { Ledger } from "./wire/ledger.ts";
import { CuttingReader } from "./wire/reader.ts";
import { type WatchedRequest, type WatchedResponse, WatchedStack } from "./wire/stack.ts";
import type { Spoken } from "./words/index.ts";

const AT_ONCE = 4;
const DAY = 24 * 60 * 60 * 1000;
const MIB = 1024 * 1024;
/**
 * Larger files are not kept by the browser over a restart; the help says so, too. Uppy takes these
 * and does not say so in its types.
 */
const KEPT: object = { maxFileSize: 512 * MIB, maxTotalSize: 2048 * MIB };
/** Milliseconds for the page before this one, which was reloaded, to let go. */
const TURN_WITHIN = 5000;
/** Milliseconds for Uppy to delete on the server what it knows of. */
const UPPY_DELETES_WITHIN = 500;
/** Milliseconds in which a server says whether it takes what is sent after a HEAD. */
const UNTOLD_AFTER = 2000;

export type File = UppyFile<Meta, Body>;

export interface UploaderWatcher {
  /** Something to show has changed; often. */
  changed: () => void;
  /** The server does not know who sends a file, which waits for other `headers`. */
  unknown: () => void;
}

/** Something the user should read, once or as long as it lasts. */
export interface Notice {
  /** A later notice of the same key takes its place. */
  key: string;
  text: string;
  isError: boolean;
}

export class Uploader {
  readonly uppy: Uppy<Meta, Body>;
  readonly history: History;
  readonly ledgers = new Map<string, Ledger>();
  readonly notices = new Map<string, Notice>();
  settings: Settings;
  readonly #endpoint: string;
  readonly #stack: WatchedStack;
  readonly #changed: () => void;
  readonly #unknown: () => void;
  /** Files that wait until the server knows who sends them. */
  readonly #refused = new Set<string>();
  /** Ids of uploads that were paused on the server, and the files that wait for them. */
  readonly #held = new Map<string, string>();
  #headers: Headers = {};
  #spoken: Spoken;
  #endTurn: () => void = () => {};

  /**
   * @param endpoint Where uploads are sent to, absolute.
   * @param settings How.
   * @param spoken The language.
   * @param watcher Who is told.
   */
  constructor(endpoint: string, settings: Settings, spoken: Spoken, watcher: UploaderWatcher) {
    const { changed, unknown } = watcher;
    this.#endpoint = endpoint;
    this.settings = settings;
    this.#spoken = spoken;
    this.#changed = changed;
    this.#unknown = unknown;
    this.history = new History(endpoint);
    this.#stack = new WatchedStack({
      answered: (request, response) => this.#answered(request, response),
      changed,
    });
    this.uppy = new Uppy<Meta, Body>({
      id: `tusd-py-${endpoint.replace(/[^a-z0-9]+/gi, "-")}`,
      autoProceed: settings.begins,
      locale: spoken.uppy,
    });
    this.uppy.use(Tus, {
      endpoint,
      limit: AT_ONCE,
      retryDelays: RETRY_DELAYS,
      removeFingerprintOnSuccess: true, // the history knows what is finished
      allowedMetaFields: ["name", "type", "relativePath"],
      httpStack: this.#stack,
      fileReader: new CuttingReader((blob) => this.#ledgerOf(blob)),
      onBeforeRequest: (request, file) => {
        (request as WatchedRequest).file = file.id;
        // An upload under way has new ones from its next request on.
        for (const [name, value] of Object.entries(this.#headers)) request.setHeader(name, value);
      },
      onShouldRetry: (error) => this.#shouldRetry(error),
      onError: (error) => {
        error.message = explain(failureOf(error), this.#spoken.words);
      },
    });
    this.#listen();
  }

  /** Begins; what a page before this one left goes on. */
  async start(): Promise<void> {
    void this.#learnLimits();
    if (await this.#isMyTurn()) {
      this.uppy.use(GoldenRetriever, { expires: DAY, indexedDB: KEPT });
    }
  }

  get headers(): Headers {
    return this.#headers;
  }

  /** For every request from now on; what was refused without them is tried again. */
  set headers(headers: Headers) {
    this.#headers = headers;
    if (this.#refused.size === 0) return;
    this.#refused.clear();
    this.uppy.hideInfo();
    void this.uppy.retryAll();
  }

  /** Whether a file waits until its upload is resumed on the server. */
  get isHeld(): boolean {
    return this.#held.size > 0;
  }

  /** Goes on at once with the file that waits for this upload, which is not paused any more. */
  goOn(id: string): void {
    const file = this.#held.get(id);
    if (file === undefined) return;
    this.#held.delete(id);
    if (this.uppy.getFile(file).isPaused) return; // by the user, here
    // Uppy has no other way to try again before its next time has come.
    this.uppy.pauseResume(file);
    this.uppy.pauseResume(file);
  }

  speak(spoken: Spoken): void {
    this.#spoken = spoken;
    this.uppy.setOptions({ locale: spoken.uppy });
  }

  configure(settings: Settings): void {
    this.settings = settings;
    this.uppy.setOptions({ autoProceed: settings.begins });
  }

  tell(key: string, text: string, isError = false): void {
    this.notices.delete(key);
    this.notices.set(key, { key, text, isError });
    this.#changed();
  }

  untell(key: string): void {
    if (this.notices.delete(key)) this.#changed();
  }

  /** Unless it is told again: a notice that goes and comes with each try is read out each time. */
  #untellSoon(key: string): void {
    const notice = this.notices.get(key);
    setTimeout(() => {
      if (notice !== undefined && this.notices.get(key) === notice) this.untell(key);
    }, UNTOLD_AFTER);
  }

  forget(id: string): void {
    this.history.forget(id);
    this.#changed();
  }

  /** Deletes an upload on the server, and in the history. */
  async remove(entry: Entry): Promise<void> {
    const urls = [...entry.parts, ...(entry.url === null ? [] : [entry.url])];
    this.history.forget(entry.id);
    this.#changed();
    await Promise.all(urls.map((url) => this.#terminate(url)));
  }

  destroy(): void {
    this.#endTurn();
    removeEventListener("online", this.#online);
    removeEventListener("offline", this.#offline);
    this.uppy.destroy();
  }

  #listen(): void {
    const { uppy } = this;
    uppy.on("upload", (_, files) => {
      for (const file of files) this.#prepare(file);
    });
    uppy.on("upload-success", (file, response) => {
      if (file) this.#succeeded(file, response.uploadURL ?? null);
    });
    uppy.on("upload-error", (file, error) => {
      if (file) this.tell(file.id, this.#about(file, error.message), true);
    });
    uppy.on("upload-retry", (file) => this.untell(file.id));
    uppy.on("file-removed", (file) => this.#removed(file));
    uppy.on("restored", () => this.#restored());
    uppy.on("complete", () => this.untell("restored"));
    uppy.on("restriction-failed", (_, error) => this.tell("refused", error.message, true));
    addEventListener("online", this.#online);
    addEventListener("offline", this.#offline);
  }

  #online = (): void => {
    this.untell("offline");
    this.tell("online", this.#spoken.words.online);
    this.#stack.lineBack();
  };

  #offline = (): void => {
    this.untell("online");
    this.#stack.lineGone();
    this.tell("offline", this.#spoken.words.offline, true);
  };

  #about(file: File, says: string): string {
    return this.#spoken.words.errorPrefix(file.name, says);
  }

  /** What the server takes; if it does not say, it will refuse by itself. */
  async #learnLimits(): Promise<void> {
    try {
      const response = await fetch(this.#endpoint, { method: "OPTIONS", headers: this.#headers });
      const most = Number(response.headers.get("Tus-Max-Size") ?? 0);
      if (most > 0) this.uppy.setOptions({ restrictions: { maxFileSize: most } });
    } catch {
      // It does not answer; that will be told when there is something to send.
    }
  }

  /** Whether no other tab keeps the files of this endpoint. */
  async #isMyTurn(): Promise<boolean> {
    if (!navigator.locks) return true; // not over http in a local network
    const ended = new Promise<void>((end) => {
      this.#endTurn = end;
    });
    return new Promise((resolve) => {
      const options = { signal: AbortSignal.timeout(TURN_WITHIN) };
      const hold = () => {
        resolve(true);
        return ended;
      };
      navigator.locks.request(this.uppy.getID(), options, hold).catch(() => resolve(false));
    });
  }

  /** Before a file is sent for the first time in this page. */
  #prepare(file: File): void {
    if (!("data" in file) || file.isRemote || file.tus?.parallelUploads) return;
    const known = this.history.find(file.id);
    const isLarge = (file.size ?? 0) >= PARALLEL_FROM;
    const there = known?.isFinished ? known.url : null;
    const parallelUploads = isLarge && there === null ? this.settings.parallel : 1;
    this.uppy.setFileState(file.id, {
      tus: { ...file.tus, parallelUploads, ...(there === null ? {} : { uploadUrl: there }) },
    });
  }

  #ledgerOf(blob: Blob): Ledger {
    const file = this.uppy.getFiles().find((each) => each.data === blob);
    if (file === undefined) throw new Error("a file that was never added");
    let ledger = this.ledgers.get(file.id);
    if (ledger === undefined) {
      const { chunk, algorithm } = this.settings;
      ledger = new Ledger(blob.size, new ChunkSize(chunk, blob.size), algorithm);
      this.ledgers.set(file.id, ledger);
    }
    return ledger;
  }

  #shouldRetry(error: DetailedError): boolean {
    const id = (error.originalRequest as WatchedRequest | null)?.file;
    const file = id === undefined ? undefined : this.uppy.getFile(id);
    if (file === undefined) return false;
    const failure = failureOf(error);
    if (failure.status === UNKNOWN) {
      this.#refused.add(file.id);
      this.#unknown();
    }
    const tries = this.#tries.get(file.id) ?? 0;
    if (!isWorthAnotherTry(failure, tries)) return false;
    this.#tries.set(file.id, tries + 1);
    const { words } = this.#spoken;
    const why = explain(failure, words);
    const says = isPaused(failure) ? why : `${why} ${words.trying}`;
    if (isPaused(failure)) this.#held.set(idOf(error.originalRequest.getURL()), file.id);
    this.tell(file.id, this.#about(file, says), !isPaused(failure));
    return true;
  }

  /** Since the last byte of a file that was acknowledged. */
  readonly #tries = new Map<string, number>();

  #answered(request: WatchedRequest, response: WatchedResponse): void {
    const file = request.file === undefined ? undefined : this.uppy.getFile(request.file);
    if (file === undefined) return;
    const method = request.getMethod();
    if (response.isSuccess && method !== "DELETE") {
      if (method === "HEAD") this.#untellSoon(file.id);
      else this.untell(file.id);
      this.#remember(file, request, response);
    }
    if (response.isSuccess && method === "PATCH") {
      this.#tries.delete(file.id);
      this.#held.delete(idOf(request.getURL()));
    }
    if (method !== "HEAD") return;
    const offset = Number(response.getHeader("Upload-Offset"));
    const length = Number(response.getHeader("Upload-Length"));
    if (response.isSuccess) this.ledgers.get(file.id)?.learn(request.getURL(), offset, length);
    else if ([404, 410].includes(response.status)) {
      this.tell(`${file.id} anew`, this.#spoken.words.begunAgain(file.name));
    }
    this.#changed();
  }

  #remember(file: File, request: WatchedRequest, response: WatchedResponse): void {
    const isCreation = request.getMethod() === "POST";
    const location = isCreation ? response.getHeader("Location") : request.getURL();
    if (location === undefined) return;
    const url = new URL(location, this.#endpoint).href;
    const concat = request.getHeader("Upload-Concat") ?? "";
    const entry = this.history.find(file.id) ?? blank(file);
    if (isCreation && !concat.startsWith("final")) {
      if (concat === "partial") entry.parts = [...entry.parts, url];
      else entry.url = url;
      entry.isFinished = false;
    } else if (entry.url !== url && !entry.parts.includes(url) && concat === "") {
      entry.url = url; // broken off before this browser had a history of it
    }
    const expires = Date.parse(response.getHeader("Upload-Expires") ?? "");
    const expiresAt = Number.isNaN(expires) ? entry.expiresAt : expires;
    const isNews = isCreation || expiresAt !== entry.expiresAt;
    if (isNews) this.history.put({ ...entry, expiresAt, changedAt: Date.now() });
  }

  #succeeded(file: File, url: string | null): void {
    const ledger = this.ledgers.get(file.id);
    ledger?.finish();
    if (ledger && ledger.size > 0 && ledger.sent === 0 && ledger.count === 0) {
      const isResumed = (this.history.find(file.id)?.isFinished ?? false) || file.isRestored;
      if (isResumed) this.tell(`${file.id} anew`, this.#spoken.words.alreadyThere(file.name));
    }
    const entry = this.history.find(file.id) ?? blank(file);
    this.history.put({
      ...entry,
      url,
      parts: [],
      isFinished: true,
      changedAt: Date.now(),
      expiresAt: null,
    });
    this.untell(file.id);
    this.#changed();
  }

  #removed(file: File): void {
    this.ledgers.delete(file.id);
    this.#tries.delete(file.id);
    this.#refused.delete(file.id);
    for (const [id, held] of this.#held) if (held === file.id) this.#held.delete(id);
    for (const key of [file.id, `${file.id} anew`]) this.untell(key);
    const entry = this.history.find(file.id);
    if (file.progress.uploadComplete || entry === undefined || entry.isFinished) return;
    this.history.forget(file.id);
    const urls = [...entry.parts, ...(entry.url === null ? [] : [entry.url])];
    // Uppy does so itself for what it is sending, and not for parts, nor for what has failed.
    setTimeout(() => {
      for (const url of urls) if (!this.#stack.deleted.has(url)) void this.#terminate(url);
    }, UPPY_DELETES_WITHIN);
    this.#changed();
  }

  /** Saves what the server has at a URL, by a request that has our headers. */
  async download(url: string, name: string): Promise<void> {
    const failure = await download(url, name, this.#headers);
    if (failure === undefined) {
      this.untell(url);
      return;
    }
    if (failure.status === UNKNOWN) this.#unknown();
    const { words } = this.#spoken;
    this.tell(url, words.errorPrefix(name, explain(failure, words)), true);
  }

  async #terminate(url: string): Promise<void> {
    try {
      const headers = { ...this.#headers, "Tus-Resumable": "1.0.0" };
      await fetch(url, { method: "DELETE", headers, keepalive: true });
    } catch {
      // It cannot be reached; what is unfinished expires there by itself.
    }
  }

  #restored(): void {
    // What was finished just before the end may have been kept as if it were not.
    const isDone = ({ id }: File) => this.history.find(id)?.isFinished ?? false;
    this.uppy.removeFiles(this.uppy.getFiles().filter(isDone).map(({ id }) => id));
    const files = this.uppy.getFiles();
    const { words } = this.#spoken;
    for (const file of files) {
      if (file.isGhost) this.tell(`${file.id} anew`, words.chooseAgain(file.name));
    }
    const { begins } = this.settings;
    const isBroken = files.some(
      ({ progress, isPaused }) =>
        !progress.complete && !isPaused && (begins || progress.uploadStarted !== null),
    );
    if (isBroken && files.every((file) => !file.isGhost)) {
      this.tell("restored", words.restored);
      this.uppy.emit("restore-confirmed");
    }
  }
}

/** Of an upload: the last segment of its URL. */
function idOf(url: string): string {
  return decodeURIComponent(new URL(url).pathname.split("/").at(-1) ?? "");
}

function blank(file: File): Entry {
  return {
    id: file.id,
    name: file.name,
    size: file.size ?? 0,
    url: null,
    parts: [],
    isFinished: false,
    changedAt: Date.now(),
    expiresAt: null,
  };
}
