/**
 * What the server tells about itself: its uploads, and how busy it is.
 *
 * The rules:
 * - Everything lies beside the page, so it is reached behind any proxy that the page came through.
 * - Requests have the headers that uploads have; an answer of 401 is told like one to an upload.
 */

import type { Headers } from "./download.ts";
import { type Failure, failed, NO_ANSWER } from "./errors.ts";

export type State =
  | "receiving"
  | "paused"
  | "finishing"
  | "complete"
  | "failed"
  | "terminated"
  | "expired";

/** Bytes, and seconds since 1970; what is not known is null. */
export interface ServerUpload {
  id: string;
  url: string;
  state: State;
  offset: number;
  length: number | null;
  filename: string;
  created_at: number;
  expires_at: number | null;
  partial: boolean;
  download: boolean;
  /** Bytes per second, at most; null for no limit of its own. */
  max_speed: number | null;
  /** As it was told last, while bytes come; a list does not tell it. */
  speed?: number;
}

/** What somebody wants of an upload: that no more bytes come, or how many a second at most. */
export type Wish = { paused: boolean } | { max_speed: number | null };

export interface Listed {
  uploads: ServerUpload[];
  /** Null where there are no more. */
  next: string | null;
}

/** Bytes, bytes per second, and seconds since 1970; the counts are since the start. */
export interface Stats {
  version: string;
  now: number;
  started_at: number;
  workers: number;
  memory: number;
  open: number;
  active: number;
  speed: number;
  disk: { free: number; total: number } | null;
  since_start: { finished: number; received: number };
  errors: { status: number; code: string; count: number }[];
}

/** The server did not answer as it should. */
export class Unanswered extends Error {
  readonly failure: Failure;

  constructor(failure: Failure) {
    super(`status ${failure.status}`);
    this.failure = failure;
  }
}

export class Server {
  readonly #headers: Headers;

  /** @param headers For every request. */
  constructor(headers: Headers) {
    this.#headers = headers;
  }

  /** Uploads, the newest first, and not more than so many. */
  async list(most: number): Promise<Listed> {
    return (await (await this.#ask(`api/uploads?limit=${most}`)).json()) as Listed;
  }

  async stats(): Promise<Stats> {
    return (await (await this.#ask("api/stats")).json()) as Stats;
  }

  /** What happens from now on, or since what was heard last; see `events.ts`. */
  async events(heard: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
    const headers: Headers = heard === "" ? {} : { "Last-Event-ID": heard };
    const { body } = await this.#ask("events", { headers, signal, cache: "no-store" });
    if (body === null) throw new Unanswered(failed(NO_ANSWER));
    return body;
  }

  /** Pauses an upload, resumes it, or limits its speed: the upload from then on. */
  async control({ id }: ServerUpload, wish: Wish): Promise<ServerUpload> {
    const options = {
      method: "PUT",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(wish),
    };
    return (await (await this.#ask(`api/uploads/${id}`, options)).json()) as ServerUpload;
  }

  async terminate({ url }: ServerUpload): Promise<void> {
    await this.#ask(url, { method: "DELETE", headers: { "Tus-Resumable": "1.0.0" } });
  }

  async #ask(path: string, options: RequestInit = {}): Promise<Response> {
    const headers = { ...this.#headers, ...(options.headers as Headers) };
    let response: Response;
    try {
      response = await fetch(new URL(path, document.baseURI), { ...options, headers });
    } catch {
      throw new Unanswered(failed(NO_ANSWER));
    }
    if (response.ok) return response;
    throw new Unanswered(failed(response.status, await response.text()));
  }
}
