/** What stays in this browser: a value, as JSON, that may be missing or from another release. */

/** Until when: for good, or until the tab is closed. */
export type Place = "localStorage" | "sessionStorage";

export function load<T>(
  key: string,
  isValid: (value: unknown) => value is T,
  place: Place = "localStorage",
): T | undefined {
  try {
    const value: unknown = JSON.parse(globalThis[place].getItem(key) ?? "null");
    return isValid(value) ? value : undefined;
  } catch {
    // Not JSON, or storage is switched off.
    return undefined;
  }
}

export function save(key: string, value: unknown, place: Place = "localStorage"): void {
  try {
    globalThis[place].setItem(key, JSON.stringify(value));
  } catch {
    // Full, or switched off: the page works without, it only forgets.
  }
}
