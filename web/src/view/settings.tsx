/** How uploads are sent; what is under way keeps what it began with. */

import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import {
  CHUNK_SIZES,
  MOST_PARTS,
  PARALLEL_FROM,
  parseAlgorithm,
  parseChunk,
  parseParallel,
  type Settings,
} from "../settings.ts";
import { formatBytes, type Words } from "../words/index.ts";

interface Props {
  settings: Settings;
  words: Words;
  change: (settings: Settings) => void;
}

export function SettingsForm({ settings, words, change }: Props) {
  const beginsId = useId();
  return (
    <details class="settings">
      <summary>{words.settings}</summary>
      <div class="fields">
        <Choice
          label={words.chunks}
          hint={words.chunksSay}
          value={String(settings.chunk)}
          choose={(value) => change({ ...settings, chunk: parseChunk(value) })}
        >
          <option value="one">{words.chunksOne}</option>
          <option value="auto">{words.chunksAuto}</option>
          {CHUNK_SIZES.map((size) => (
            <option key={size} value={size}>
              {words.chunksFixed(formatBytes(size, words))}
            </option>
          ))}
        </Choice>
        <Choice
          label={words.checksum}
          hint={words.checksumSay}
          value={settings.algorithm ?? "none"}
          choose={(value) => change({ ...settings, algorithm: parseAlgorithm(value) })}
        >
          <option value="sha256">SHA-256</option>
          <option value="sha1">SHA-1</option>
          <option value="none">{words.checksumNone}</option>
        </Choice>
        <Choice
          label={words.parallel}
          hint={words.parallelSay(formatBytes(PARALLEL_FROM, words))}
          value={String(settings.parallel)}
          choose={(value) => change({ ...settings, parallel: parseParallel(value) })}
        >
          {Array.from({ length: MOST_PARTS }, (_, index) => index + 1).map((parts) => (
            <option key={parts} value={parts}>
              {parts}
            </option>
          ))}
        </Choice>
        <div class="field">
          <span class="check">
            <input
              id={beginsId}
              type="checkbox"
              checked={settings.begins}
              aria-describedby={`${beginsId}-hint`}
              onChange={(event) => change({ ...settings, begins: event.currentTarget.checked })}
            />
            <label for={beginsId}>{words.begin}</label>
          </span>
          <small id={`${beginsId}-hint`}>{words.beginSay}</small>
        </div>
      </div>
    </details>
  );
}

interface ChoiceProps {
  label: string;
  hint: string;
  value: string;
  choose: (value: string) => void;
  children: ComponentChildren;
}

function Choice({ label, hint, value, choose, children }: ChoiceProps) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select
        id={id}
        value={value}
        aria-describedby={`${id}-hint`}
        onChange={(event) => choose(event.currentTarget.value)}
      >
        {children}
      </select>
      <small id={`${id}-hint`}>{hint}</small>
    </div>
  );
}
