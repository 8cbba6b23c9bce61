/** How fast an upload may go at most: a number in a unit that people use, nothing for no limit. */

import { useState } from "preact/hooks";
import type { Words } from "../words/index.ts";

const MB = 1024 * 1024; // as Uppy counts
/** Bytes per second; the server takes no lower limit. */
const LEAST = 1024;

interface Props {
  /** Of the upload. */
  name: string;
  /** Bytes per second, null for no limit. */
  maxSpeed: number | null;
  words: Words;
  /** Asks the server for another one; ends when that is answered, whatever came of it. */
  limit: (maxSpeed: number | null) => Promise<void>;
}

export function SpeedLimit({ name, maxSpeed, words, limit }: Props) {
  /** As long as the server has not been asked for it. */
  const [typed, setTyped] = useState<string>();
  const change = async (input: HTMLInputElement) => {
    if (!input.reportValidity()) return;
    const bytes = Math.round(input.valueAsNumber * MB);
    await limit(input.value === "" ? null : bytes);
    setTyped(undefined);
  };
  return (
    <label class="limit">
      {words.serverLimit}
      <input
        type="number"
        min={LEAST / MB}
        step="any"
        placeholder={words.serverNoLimit}
        aria-label={words.namedButton(words.serverLimit, name)}
        value={typed ?? shown(maxSpeed)}
        onInput={(event) => setTyped(event.currentTarget.value)}
        onChange={(event) => void change(event.currentTarget)}
      />
    </label>
  );
}

function shown(maxSpeed: number | null): string {
  return maxSpeed === null ? "" : String(Number((maxSpeed / MB).toPrecision(3)));
}
