/**
 * The uploads of this browser, also after a reload.
 *
 * The rules:
 * - An entry is known by Uppy's name for the file (its name, size, and when it was changed), so that
 *   the same file, chosen again, is the same entry.
 * - It is read anew before each change: another tab writes to it, too.
 */

import { load, save } from "./stored.ts";

export interface Entry {
  id: string;
  name: string;
  size: number;
  /** Of the upload, null as long as there are only parts of it. */
  url: string | null;
  /** URLs of parts that belong to nothing yet. */
  parts: string[];
  isFinished: boolean;
  /** Milliseconds since 1970, as are all times here. */
  changedAt: number;
  expiresAt: number | null;
}

const MOST = 200;

export class History {
  readonly #key: string;

  constructor(endpoint: string) {
    this.#key = `tusd-py.history ${endpoint}`;
  }

  /** The newest first. */
  list(): Entry[] {
    return load(this.#key, isEntries) ?? [];
  }

  find(id: string): Entry | undefined {
    return this.list().find((entry) => entry.id === id);
  }

  put(entry: Entry): void {
    const others = this.list().filter((other) => other.id !== entry.id);
    save(this.#key, [entry, ...others].slice(0, MOST));
  }

  forget(id: string): void {
    save(
      this.#key,
      this.list().filter((entry) => entry.id !== id),
    );
  }
}

function isEntries(value: unknown): value is Entry[] {
  return Array.isArray(value) && value.every(isEntry);
}

function isEntry(value: unknown): value is Entry {
  if (typeof value !== "object" || value === null) return false;
  const entry = value as Record<keyof Entry, unknown>;
  return (
    typeof entry.id === "string" &&
    typeof entry.name === "string" &&
    typeof entry.size === "number" &&
    (entry.url === null || typeof entry.url === "string") &&
    Array.isArray(entry.parts) &&
    typeof entry.isFinished === "boolean" &&
    typeof entry.changedAt === "number" &&
    (entry.expiresAt === null || typeof entry.expiresAt === "number")
  );
}
