/** What stays in this browser: a value, as JSON, that may be missing or from another release. */

export function load<T>(key: string, isValid: (value: unknown) => value is T): T | undefined {
  try {
    const value: unknown = JSON.parse(localStorage.getItem(key) ?? "null");
    return isValid(value) ? value : undefined;
  } catch {
    // Not JSON, or storage is switched off.
    return undefined;
  }
}

export function save(key: string, value: unknown): void {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Full, or switched off: the page works without, it only forgets.
  }
}
