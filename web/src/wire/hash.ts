/** Checksums of chunks, computed in a worker. */

import workerUrl from "./hash.worker.ts?worker&url";

export type Algorithm = "sha1" | "sha256";

export interface Question {
  id: number;
  algorithm: Algorithm;
  chunk: Blob;
}

export interface Answer {
  id: number;
  digest?: string;
  /** The chunk could not be read. */
  error?: string;
}

/** The chunk could not be read: the file was changed or removed since it was chosen. */
export class Unreadable extends Error {}

/** The worker did not start: the page that we are in may not allow it. */
export class NotHashed extends Error {}

interface Waiting {
  resolve: (answer: Answer) => void;
  reject: (error: Error) => void;
}

let worker: Worker | undefined;
let last = 0;
const waiting = new Map<number, Waiting>();

/** What `Upload-Checksum` says of a chunk. */
export async function checksum(algorithm: Algorithm, chunk: Blob): Promise<string> {
  worker ??= start();
  last += 1;
  const question: Question = { id: last, algorithm, chunk };
  const answer = await new Promise<Answer>((resolve, reject) => {
    waiting.set(question.id, { resolve, reject });
    worker?.postMessage(question);
  });
  if (answer.digest === undefined) throw new Unreadable(answer.error);
  return `${algorithm} ${answer.digest}`;
}

function start(): Worker {
  const made = new Worker(ownOrigin(new URL(workerUrl, import.meta.url)));
  made.addEventListener("message", (event: MessageEvent<Answer>) => {
    waiting.get(event.data.id)?.resolve(event.data);
    waiting.delete(event.data.id);
  });
  made.addEventListener("error", () => {
    // It could not be loaded, and will answer nothing; the next chunk tries with a new one.
    worker = undefined;
    const error = new NotHashed("a worker for checksums cannot be started (worker-src)");
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  });
  return made;
}

/** A worker must come from the page's own origin; where we are a guest, a line there loads it. */
function ownOrigin(url: URL): URL | string {
  if (url.origin === location.origin) return url;
  const line = new Blob([`importScripts(${JSON.stringify(url.href)});`]);
  return URL.createObjectURL(line);
}
