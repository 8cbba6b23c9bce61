/**
 * How tus-js-client speaks HTTP here: as it does by itself, and
 *
 * - each chunk has its checksum, so that one that arrives wrong is refused with 460, and sent again;
 * - whoever watches learns what is under way and what the server said it has;
 * - where a HEAD cannot be answered for now (the server restarts, a proxy says 502, a token is
 *   wrong), tus-js-client would begin a new upload and forget the old one. It is told that the
 *   upload is busy, which it bears; `status` has the truth;
 * - a request on a line that died without a word is given up, and tried again.
 */

import type { HttpRequest, HttpResponse, HttpStack } from "tus-js-client";
import { checksum, Unreadable } from "./hash.ts";
import type { Flight } from "./ledger.ts";
import { pieceOf } from "./reader.ts";

const LOCKED = 423;
const GONE = [404, 410];

/** Milliseconds without a byte that moves, as long as there are some to send. */
const MOVES_WITHIN = 30_000;
/** Milliseconds until an answer, once all is on its way: it may fill buffers of a slow line. */
const ANSWERED_WITHIN = 300_000;

/** What a file's requests tell; see `WatchedStack`. */
export interface Watcher {
  /** A request of a file was answered. */
  answered(request: WatchedRequest, response: WatchedResponse): void;
  /** Something has changed in the ledger of a file. */
  changed(): void;
}

/** For the option `httpStack` of tus-js-client. */
export class WatchedStack implements HttpStack {
  /** Every URL that was asked to be deleted. */
  readonly deleted = new Set<string>();
  readonly #watcher: Watcher;
  readonly #live = new Set<WatchedRequest>();
  #lost: WatchedRequest[] = [];

  constructor(watcher: Watcher) {
    this.#watcher = watcher;
  }

  createRequest(method: string, url: string): WatchedRequest {
    if (method === "DELETE") this.deleted.add(url);
    return new WatchedRequest(method, url, this.#watcher, this.#live);
  }

  /** What is under way is not answered any more; some systems do not say so. */
  lineGone(): void {
    this.#lost = [...this.#live];
  }

  /** There is one again; what was begun on it may be faster than this word of it. */
  lineBack(): void {
    for (const request of this.#lost) request.giveUp();
    this.#lost = [];
  }

  getName(): string {
    return "WatchedStack";
  }
}

export class WatchedRequest implements HttpRequest {
  readonly #method: string;
  readonly #url: string;
  readonly #watcher: Watcher;
  readonly #xhr = new XMLHttpRequest();
  readonly #headers = new Map<string, string>();
  #progress: ((bytes: number) => void) | undefined;
  #flight: Flight | undefined;
  #stop: () => void = () => {};
  #isAborted = false;
  readonly #live: Set<WatchedRequest>;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #fail: (error: Error) => void = () => {};
  /** The file that this is for, if the client said so. */
  file: string | undefined;

  constructor(method: string, url: string, watcher: Watcher, live: Set<WatchedRequest>) {
    this.#method = method;
    this.#url = url;
    this.#watcher = watcher;
    this.#live = live;
    this.#xhr.open(method, url, true);
  }

  getMethod(): string {
    return this.#method;
  }

  getURL(): string {
    return this.#url;
  }

  setHeader(header: string, value: string): void {
    this.#headers.set(header, value);
    this.#xhr.setRequestHeader(header, value);
  }

  getHeader(header: string): string | undefined {
    return this.#headers.get(header);
  }

  setProgressHandler(handler: (bytes: number) => void): void {
    this.#progress = handler;
  }

  getUnderlyingObject(): XMLHttpRequest {
    return this.#xhr;
  }

  async abort(): Promise<void> {
    this.#isAborted = true;
    this.#stop();
    this.#xhr.abort();
  }

  /** It failed, as far as whoever waits for it is told. */
  giveUp(): void {
    this.#fail(new Error("no answer"));
    this.#xhr.abort();
  }

  async send(body?: unknown): Promise<HttpResponse> {
    const piece = pieceOf(body);
    if (piece === undefined || this.#method !== "PATCH") return this.#exchange(body);
    const { ledger, start, end } = piece;
    const { algorithm, chunks } = ledger;
    if (algorithm !== null && Number.isFinite(chunks.bytes)) {
      const said = await checksum(algorithm, body as Blob);
      // Nobody waits for the answer to an aborted request, as with one of tus-js-client's own.
      if (this.#isAborted) return new Promise(() => {});
      this.setHeader("Upload-Checksum", said);
    }
    const offset = Number(this.getHeader("Upload-Offset"));
    const flight = ledger.begin(this.#url, start, end, offset);
    this.#flight = flight;
    this.#stop = () => {
      ledger.stop(flight);
      this.#watcher.changed();
    };
    this.#watcher.changed();
    const begun = performance.now();
    try {
      const response = await this.#exchange(body);
      const at = Number(response.getHeader("Upload-Offset") ?? Number.NaN);
      if (response.isSuccess && at >= offset) {
        ledger.acknowledge(flight, this.#url, at);
        chunks.succeeded(end - start, performance.now() - begun);
      } else {
        ledger.lose(flight, response.status);
        chunks.failed();
      }
      return response;
    } catch (error) {
      ledger.lose(flight, 0);
      chunks.failed();
      throw error;
    } finally {
      this.#watcher.changed();
    }
  }

  #exchange(body: unknown): Promise<WatchedResponse> {
    const xhr = this.#xhr;
    xhr.upload.onprogress = (event) => {
      if (this.#flight) this.#flight.sent = event.loaded;
      this.#expect(event.loaded < event.total ? MOVES_WITHIN : ANSWERED_WITHIN);
      this.#progress?.(event.loaded);
      this.#watcher.changed();
    };
    return new Promise((resolve, reject) => {
      this.#fail = reject;
      xhr.onload = () => {
        const response = new WatchedResponse(this.#method, xhr);
        this.#watcher.answered(this, response);
        resolve(response);
      };
      xhr.onerror = async () => reject(await reasonOf(body));
      xhr.onloadend = () => {
        clearTimeout(this.#timer);
        this.#live.delete(this);
      };
      this.#live.add(this);
      this.#expect(body instanceof Blob ? MOVES_WITHIN : ANSWERED_WITHIN);
      xhr.send((body ?? null) as XMLHttpRequestBodyInit | null);
    });
  }

  /** Something happens in so many milliseconds, or it is given up. */
  #expect(within: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.giveUp(), within);
  }
}

/** Why nothing was answered: the browser says no more than that it could not send. */
async function reasonOf(body: unknown): Promise<Error> {
  try {
    if (body instanceof Blob) await body.slice(0, 1).arrayBuffer();
  } catch (error) {
    return new Unreadable(String(error));
  }
  return new Error("no answer");
}

export class WatchedResponse implements HttpResponse {
  readonly #method: string;
  readonly #xhr: XMLHttpRequest;

  constructor(method: string, xhr: XMLHttpRequest) {
    this.#method = method;
    this.#xhr = xhr;
  }

  /** As the server said it. */
  get status(): number {
    return this.#xhr.status;
  }

  get isSuccess(): boolean {
    return this.status >= 200 && this.status < 300;
  }

  getStatus(): number {
    const isClear = this.isSuccess || GONE.includes(this.status);
    return this.#method === "HEAD" && !isClear ? LOCKED : this.status;
  }

  getHeader(header: string): string | undefined {
    return this.#xhr.getResponseHeader(header) ?? undefined;
  }

  getBody(): string {
    return this.#xhr.responseText;
  }

  getUnderlyingObject(): XMLHttpRequest {
    return this.#xhr;
  }
}
