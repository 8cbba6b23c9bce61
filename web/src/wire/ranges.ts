/** A set of bytes of a file, as ranges in order that neither overlap nor touch. */

export interface Range {
  readonly start: number;
  /** Not in the range itself. */
  readonly end: number;
}

export class Ranges {
  #list: Range[] = [];

  get list(): readonly Range[] {
    return this.#list;
  }

  /** Bytes in all. */
  get total(): number {
    return this.#list.reduce((sum, range) => sum + range.end - range.start, 0);
  }

  add(start: number, end: number): void {
    if (end <= start) return;
    const apart = this.#list.filter((range) => range.end < start || range.start > end);
    const touching = this.#list.filter((range) => range.end >= start && range.start <= end);
    const joined = {
      start: Math.min(start, ...touching.map((range) => range.start)),
      end: Math.max(end, ...touching.map((range) => range.end)),
    };
    this.#list = [...apart, joined].sort((one, other) => one.start - other.start);
  }

  remove(start: number, end: number): void {
    if (end <= start) return;
    this.#list = this.#list.flatMap((range) =>
      [
        { start: range.start, end: Math.min(range.end, start) },
        { start: Math.max(range.start, end), end: range.end },
      ].filter((left) => left.start < left.end),
    );
  }
}
