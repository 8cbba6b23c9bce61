/** The languages; all but English are loaded when they are needed. */

import type { Locale } from "@uppy/core/utils";
import { en, type Words } from "./en.ts";

export type { Words } from "./en.ts";

export const LANGUAGES = { en: "English", de: "Deutsch" } as const;
export type Language = keyof typeof LANGUAGES;

export interface Spoken {
  words: Words;
  /** Uppy's own texts; where there is none, it has one by itself. */
  uppy: Locale;
}

/** The nearest of ours to what a browser or a page asks for, such as `de-AT`. */
export function nearest(asked: string | readonly string[]): Language {
  for (const tag of typeof asked === "string" ? [asked] : asked) {
    const language = tag.toLowerCase().split("-")[0];
    if (language !== undefined && language in LANGUAGES) return language as Language;
  }
  return "en";
}

export async function speak(language: Language): Promise<Spoken> {
  if (language === "en") {
    return { words: en, uppy: { strings: en.uppy, pluralize: (count) => (count === 1 ? 0 : 1) } };
  }
  const [{ de }, { default: uppy }] = await Promise.all([
    import("./de.ts"),
    import("@uppy/locales/lib/de_DE.js"),
  ]);
  return { words: de, uppy: { ...uppy, strings: { ...uppy.strings, ...de.uppy } } };
}

/** The user's own variety of a language: dates differ within one. */
function region({ locale }: Words): string {
  return navigator.languages.find((tag) => nearest(tag) === locale) ?? locale;
}

/** A size as Uppy shows it: a kilobyte has 1024 bytes. */
export function formatBytes(bytes: number, words: Words): string {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"] as const;
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return new Intl.NumberFormat(region(words), {
    style: "unit",
    unit: units[unit] ?? "byte",
    unitDisplay: unit === 0 ? "long" : "short", // "byte" has no plural where it is short
    maximumFractionDigits: digits,
  }).format(value);
}

export function formatMoment(milliseconds: number, words: Words): string {
  return new Intl.DateTimeFormat(region(words), { dateStyle: "medium", timeStyle: "short" }).format(
    milliseconds,
  );
}
