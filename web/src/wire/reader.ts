/**
 * Cuts files for tus-js-client, and remembers which bytes a piece is.
 *
 * The rules:
 * - tus-js-client is told of no chunks. It asks for all that is left, and gets as much as a chunk
 *   shall have at that moment.
 * - Where a file goes in parallel parts, it first asks for those, from the front: they are not cut.
 *   Each is read again as a file of its own, and that is.
 */

import type { FileReader, FileSource, SliceResult } from "tus-js-client";
import type { Ledger } from "./ledger.ts";

export interface Piece {
  readonly ledger: Ledger;
  readonly start: number;
  readonly end: number;
}

const pieces = new WeakMap<Blob, Piece>();

/** Which bytes of which file a request sends. */
export function pieceOf(body: unknown): Piece | undefined {
  return body instanceof Blob ? pieces.get(body) : undefined;
}

/** For the option `fileReader` of tus-js-client. */
export class CuttingReader implements FileReader {
  readonly #ledgerOf: (file: Blob) => Ledger;

  constructor(ledgerOf: (file: Blob) => Ledger) {
    this.#ledgerOf = ledgerOf;
  }

  async openFile(input: Blob): Promise<FileSource> {
    const part = pieces.get(input);
    return new CuttingSource(
      input,
      part ?? { ledger: this.#ledgerOf(input), start: 0, end: input.size },
    );
  }
}

class CuttingSource implements FileSource {
  readonly size: number;
  readonly #blob: Blob;
  readonly #piece: Piece;
  #isInParts = false;

  constructor(blob: Blob, piece: Piece) {
    this.size = blob.size;
    this.#blob = blob;
    this.#piece = piece;
  }

  async slice(start: number, end: number): Promise<SliceResult> {
    this.#isInParts ||= end < this.size;
    const { ledger, start: base } = this.#piece;
    const until = this.#isInParts ? end : Math.min(end, start + ledger.chunks.bytes);
    const value = this.#blob.slice(start, until);
    pieces.set(value, { ledger, start: base + start, end: base + until });
    return { value, done: until >= this.size };
  }

  close(): void {
    // A blob needs no closing.
  }
}
