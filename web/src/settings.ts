/** How uploads are sent, as the user chose it or the page that we are in. */

import { load, save } from "./stored.ts";
import type { ChunkSetting } from "./wire/chunks.ts";
import type { Algorithm } from "./wire/hash.ts";

export interface Settings {
  chunk: ChunkSetting;
  parallel: number;
  algorithm: Algorithm | null;
  /** Whether an upload begins as soon as a file is chosen. */
  begins: boolean;
}

export const DEFAULTS: Settings = {
  chunk: "one",
  parallel: 1,
  algorithm: "sha256",
  begins: true,
};

const MB = 1024 * 1024; // as Uppy counts
const LARGEST_CHUNK = 100 * MB;

/** Bytes that can be chosen as the size of a chunk. */
export const CHUNK_SIZES = [1, 5, 10, 25, 50].map((size) => size * MB);
export const MOST_PARTS = 6;
/** A smaller file goes in one part, whatever is set. */
export const PARALLEL_FROM = 20 * MB;

const KEY = "tusd-py.settings";

export function loadSettings(): Settings {
  return { ...DEFAULTS, ...load(KEY, isSettings) };
}

export function saveSettings(settings: Settings): void {
  save(KEY, settings);
}

function isSettings(value: unknown): value is Settings {
  if (typeof value !== "object" || value === null) return false;
  const { chunk, parallel, algorithm, begins } = value as Record<keyof Settings, unknown>;
  return (
    parseChunk(String(chunk)) === chunk &&
    parseParallel(String(parallel)) === parallel &&
    (algorithm === null || parseAlgorithm(String(algorithm)) === algorithm) &&
    typeof begins === "boolean"
  );
}

export function parseChunk(text: string | null): ChunkSetting {
  if (text === "auto" || text === "one") return text;
  const bytes = Number(text ?? "");
  const isPossible = Number.isSafeInteger(bytes) && bytes >= 1024 && bytes <= LARGEST_CHUNK;
  return isPossible ? bytes : DEFAULTS.chunk;
}

export function parseParallel(text: string | null): number {
  const parts = Number(text ?? "");
  return Number.isInteger(parts) && parts >= 1 && parts <= MOST_PARTS ? parts : DEFAULTS.parallel;
}

export function parseAlgorithm(text: string | null): Algorithm | null {
  if (text === "none") return null;
  return text === "sha1" || text === "sha256" ? text : DEFAULTS.algorithm;
}
