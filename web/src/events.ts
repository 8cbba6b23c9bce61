/**
 * What happens to uploads on the server, as it tells it by Server-Sent Events.
 *
 * The rules:
 * - They are read by `fetch`: an `EventSource` can send no token.
 * - Whoever comes back says what was heard last, and has missed nothing. Where that is not known, or
 *   is too old, everything is loaded anew.
 * - What is told is taken in before the next is read, so that nothing overtakes a list on its way.
 * - A stream that says less than the server always does has died on the way, or is held back there.
 */

import { type Failure, failed, NO_ANSWER, UNKNOWN } from "./errors.ts";
import { type Server, type ServerUpload, Unanswered } from "./server.ts";

/** Milliseconds without a word; the server says something every 15 seconds. */
const SAYS_WITHIN = 40_000;
/** Milliseconds until a stream that ended is asked for again, and after several failures. */
const AGAIN_AFTER = 1000;
const AGAIN_AT_LAST = 10_000;

/** One event; `ready` says that all that follows is from now on. */
export type Told =
  | { event: "ready" }
  | { event: "progress"; data: { id: string; offset: number; length: number | null; speed: number } }
  | { event: "created" | "changed"; data: { id: string; upload: ServerUpload | null } };

const CHANGES = ["paused", "resumed", "finished", "failed", "terminated", "expired"];

export interface Listener {
  /** Loads everything anew. */
  load: () => Promise<void>;
  told: (told: Told) => void;
  /** Why nothing is told, undefined when it is again. */
  failed: (failure: Failure | undefined) => void;
}

/** Listens until it is ended by a signal, or the server does not know who asks. */
export async function listen(server: Server, listener: Listener, ended: AbortSignal): Promise<void> {
  let heard = "";
  let failures = 0;
  while (!ended.aborted) {
    try {
      // Before the first word, too: something on the way may hold that back.
      if (heard === "") await listener.load();
      for await (const frame of frames(server, heard, ended)) {
        if (frame.event === "ready") await listener.load();
        const told = read(frame);
        if (told !== undefined) listener.told(told);
        heard = frame.id || heard;
        failures = 0;
        listener.failed(undefined);
      }
    } catch (error) {
      if (ended.aborted) return;
      if (!(error instanceof Unanswered)) throw error;
      listener.failed(error.failure);
      if (error.failure.status === UNKNOWN) return;
      heard = "";
      failures += 1;
    }
    await pause(Math.min(AGAIN_AFTER * Math.max(1, failures), AGAIN_AT_LAST), ended);
  }
}

interface Frame {
  event: string;
  id: string;
  data: string;
}

/** Undefined for what a later server may tell. */
function read({ event, data }: Frame): Told | undefined {
  if (event === "ready") return { event };
  if (event === "progress" || event === "created") return { event, data: JSON.parse(data) };
  return CHANGES.includes(event) ? { event: "changed", data: JSON.parse(data) } : undefined;
}

/** @throws Unanswered The stream did not begin, or broke off; it may also just end. */
async function* frames(server: Server, heard: string, ended: AbortSignal): AsyncGenerator<Frame> {
  const died = new AbortController();
  const signal = AbortSignal.any([ended, died.signal]);
  let timer = setTimeout(() => died.abort(), SAYS_WITHIN);
  try {
    const body = await server.events(heard, signal);
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => died.abort(), SAYS_WITHIN);
      const blocks = (text + value).split("\n\n");
      text = blocks.pop() ?? "";
      yield* blocks.map(frameOf);
    }
  } catch (error) {
    throw error instanceof Unanswered ? error : new Unanswered(failed(NO_ANSWER));
  } finally {
    clearTimeout(timer);
    died.abort();
  }
}

/** As the HTML Standard says (9.2.6), of which the server uses these. */
function frameOf(block: string): Frame {
  const frame = { event: "", id: "", data: "" };
  for (const line of block.split("\n")) {
    const [, name, value] = /^(event|id|data): ?(.*)$/.exec(line) ?? [];
    if (name !== undefined) frame[name as keyof Frame] = value ?? "";
  }
  return frame;
}

function pause(milliseconds: number, ended: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (ended.aborted) resolve();
    const over = AbortSignal.any([ended, AbortSignal.timeout(milliseconds)]);
    over.addEventListener("abort", () => resolve());
  });
}
