/**
 * What went wrong, and whether it is worth another try.
 *
 * The rules:
 * - What passes by itself is tried again for as long as the page is open: no network, a server that
 *   restarts, a full disk.
 * - A chunk that arrived wrong (460) is sent again, some times.
 * - What was paused on the server waits until it is resumed there.
 * - What the server will say again is not asked again: it is told, with what to do about it.
 */

import { DetailedError } from "tus-js-client";
import { NotHashed, Unreadable } from "./wire/hash.ts";
import type { WatchedResponse } from "./wire/stack.ts";
import type { Words } from "./words/index.ts";

/** Seconds between tries, until a day is over; progress begins them anew. */
export const RETRY_DELAYS = [0.5, 1, 2, 4, 8, ...Array<number>(8640).fill(10)].map(
  (seconds) => seconds * 1000,
);

export const NO_ANSWER = 0;
const NOT_SENT = -1;
/** The server does not know who asks. */
export const UNKNOWN = 401;
const ALWAYS = Number.POSITIVE_INFINITY;

const TRIES: Record<number, number> = {
  [NO_ANSWER]: ALWAYS,
  409: 10,
  423: 60,
  429: ALWAYS,
  460: 8,
  500: 8,
  502: ALWAYS,
  503: ALWAYS,
  504: ALWAYS,
  507: ALWAYS,
};

export interface Failure {
  /** As the server said it, 0 if it did not answer, -1 if nothing was sent. */
  status: number;
  isUnreadable: boolean;
  /** The server's own sentence, if it was one; of what was not sent, why. */
  said: string;
  /** Such as `ERR_UPLOAD_PAUSED`; empty if the server said none. */
  code: string;
}

const PAUSED = "ERR_UPLOAD_PAUSED";

/** By its status, and what stood in the answer: a proxy has a page of its own there. */
export function failed(status: number, body = ""): Failure {
  const [, code = "", said = ""] = /^(ERR_[A-Z_]+): (.+)$/m.exec(body) ?? [];
  return { status, isUnreadable: false, said, code };
}

export function failureOf(told: Error): Failure {
  // Uppy wraps what got no answer.
  const error = told.cause instanceof DetailedError ? told.cause : told;
  if (!(error instanceof DetailedError)) {
    return { ...failed(NOT_SENT), isUnreadable: error instanceof Unreadable, said: error.message };
  }
  const { originalResponse: response, causingError: cause } = error;
  if (cause instanceof NotHashed) return { ...failed(NOT_SENT), said: cause.message };
  const isUnreadable = cause instanceof Unreadable;
  if (response === null) return { ...failed(NO_ANSWER), isUnreadable };
  const { status } = response as WatchedResponse;
  return { ...failed(status, response.getBody()), isUnreadable };
}

/** Whether it waits, and nothing is wrong. */
export function isPaused(failure: Failure): boolean {
  return failure.code === PAUSED;
}

export function isWorthAnotherTry(failure: Failure, tries: number): boolean {
  if (isPaused(failure)) return true;
  return !failure.isUnreadable && tries < (TRIES[failure.status] ?? 0);
}

export function explain(failure: Failure, words: Words): string {
  if (failure.isUnreadable) return words.errorUnreadable;
  if (isPaused(failure)) return words.errorPaused;
  switch (failure.status) {
    case NOT_SENT:
      return words.errorHere(failure.said);
    case NO_ANSWER:
    case 502:
    case 504:
      return words.errorNetwork;
    case UNKNOWN:
      return words.errorUnknown;
    case 403:
      return words.errorAuthority;
    case 404:
    case 410:
      return words.errorGone;
    case 413:
      return failure.said ? words.errorTooLarge : words.errorProxyTooLarge;
    case 409:
    case 423:
    case 429:
    case 503:
      return words.errorBusy;
    case 460:
      return words.errorDamaged;
    case 507:
      return words.errorFull;
    default:
      return failure.status >= 500
        ? words.errorServer(failure.status)
        : words.errorRefused(failure.status, failure.said);
  }
}
