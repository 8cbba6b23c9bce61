/**
 * How large the next request is.
 *
 * The rules:
 * - "one": everything that is left, in one request. The server keeps what came when it breaks off.
 * - "auto": begins with a size that fits the file, and follows the line: a chunk shall take between
 *   one and ten seconds, and one that failed is followed by a smaller one.
 * - A number: so many bytes, always.
 */

const MB = 1024 * 1024; // as Uppy counts

export type ChunkSetting = "one" | "auto" | number;

export const SMALLEST = 256 * 1024;
export const LARGEST = 50 * MB;

const TOO_FAST = 1_000; // milliseconds
const TOO_SLOW = 10_000;

/** Bytes of the first chunk of a file of so many bytes. */
export function firstChunk(fileSize: number): number {
  if (fileSize < 10 * MB) return 1 * MB;
  if (fileSize < 100 * MB) return 5 * MB;
  if (fileSize < 1024 * MB) return 10 * MB;
  return 25 * MB;
}

/** The size of the chunks of one file. */
export class ChunkSize {
  readonly setting: ChunkSetting;
  #bytes: number;

  constructor(setting: ChunkSetting, fileSize: number) {
    this.setting = setting;
    if (setting === "one") this.#bytes = Number.POSITIVE_INFINITY;
    else this.#bytes = setting === "auto" ? firstChunk(fileSize) : setting;
  }

  /** Of the next chunk; infinite where there are no chunks. */
  get bytes(): number {
    return this.#bytes;
  }

  /** A chunk of so many bytes was acknowledged after so many milliseconds. */
  succeeded(bytes: number, milliseconds: number): void {
    if (this.setting !== "auto" || bytes < this.#bytes) return;
    if (milliseconds < TOO_FAST) this.#set(this.#bytes * 2);
    else if (milliseconds > TOO_SLOW) this.#set(this.#bytes / 2);
  }

  /** A chunk was not acknowledged. */
  failed(): void {
    if (this.setting === "auto") this.#set(this.#bytes / 2);
  }

  #set(bytes: number): void {
    this.#bytes = Math.round(Math.min(LARGEST, Math.max(SMALLEST, bytes)));
  }
}
