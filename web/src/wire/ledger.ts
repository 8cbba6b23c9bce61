/**
 * What is known of the bytes of one file: the view of its chunks, and where its parts are.
 *
 * The rules:
 * - "Stored" is what the server said it had before this page sent anything, "acknowledged" what it
 *   said after a request of this page. Nothing else counts.
 * - A part of a file (it has several where they go in parallel) has a URL of its own, and begins at
 *   a byte of the file that is known from its first request on.
 */

import type { Algorithm } from "./hash.ts";
import type { ChunkSize } from "./chunks.ts";
import { Ranges } from "./ranges.ts";

export interface Flight {
  readonly start: number;
  readonly end: number;
  /** Bytes that have left this machine. */
  sent: number;
}

/** A chunk that the server did not take as it came. */
export interface Mishap {
  readonly at: number;
  readonly status: number;
}

export class Ledger {
  readonly size: number;
  readonly chunks: ChunkSize;
  readonly algorithm: Algorithm | null;
  readonly stored = new Ranges();
  readonly acknowledged = new Ranges();
  readonly flights = new Set<Flight>();
  /** By the URL of a part: the byte of the file that it begins with. */
  readonly parts = new Map<string, number>();
  /** Bytes that were sent by this page, also those that were lost on the way. */
  sent = 0;
  /** Requests that were acknowledged. */
  count = 0;
  readonly mishaps: Mishap[] = [];

  constructor(size: number, chunks: ChunkSize, algorithm: Algorithm | null) {
    this.size = size;
    this.chunks = chunks;
    this.algorithm = algorithm;
  }

  /** A request is about to send bytes of the part at a URL, which has so many already. */
  begin(url: string, start: number, end: number, offset: number): Flight {
    const base = start - offset;
    this.parts.set(url, base);
    this.#found(base, start);
    const flight = { start, end, sent: 0 };
    this.flights.add(flight);
    return flight;
  }

  /** The server acknowledged all of a part up to an offset in it. */
  acknowledge(flight: Flight, url: string, offset: number): void {
    this.#land(flight);
    this.acknowledged.add(flight.start, (this.parts.get(url) ?? 0) + offset);
    this.count += 1;
  }

  /** It is not known what became of it. */
  lose(flight: Flight, status: number): void {
    if (!this.flights.has(flight)) return;
    this.#land(flight);
    this.mishaps.push({ at: flight.start, status });
  }

  /** It was stopped here. */
  stop(flight: Flight): void {
    this.#land(flight);
  }

  /** The server was asked, and has so much of an upload of some length. */
  learn(url: string, offset: number, length: number): void {
    const base = length === this.size ? 0 : this.parts.get(url);
    if (base === undefined) return;
    const next = Math.min(this.size, ...[...this.parts.values()].filter((start) => start > base));
    this.#found(base, base + offset);
    this.stored.remove(base + offset, next);
    this.acknowledged.remove(base + offset, next);
  }

  /** All of it is on the server. */
  finish(): void {
    this.flights.clear();
    this.#found(0, this.size);
  }

  #found(start: number, end: number): void {
    this.stored.add(start, end);
    for (const range of this.acknowledged.list) this.stored.remove(range.start, range.end);
  }

  #land(flight: Flight): void {
    this.flights.delete(flight);
    this.sent += flight.sent;
  }
}
