/** How a finished upload is saved where a link is not enough, as it can send no headers. */

import { type Failure, failed, NO_ANSWER } from "./errors.ts";

/** Such as a token, by their names. */
export type Headers = Readonly<Record<string, string>>;

/** Milliseconds for the browser to begin with what is saved. */
const SAVED_WITHIN = 60_000;

/**
 * Saves what is at a URL, by way of the browser's own storage.
 *
 * @returns Why it could not be, if it could not.
 */
export async function download(
  url: string,
  name: string,
  headers: Headers,
): Promise<Failure | undefined> {
  try {
    const response = await fetch(url, { headers });
    if (!response.ok) return failed(response.status);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), SAVED_WITHIN);
    return undefined;
  } catch {
    return failed(NO_ANSWER);
  }
}
