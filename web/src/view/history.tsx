/** The uploads of this browser: where they are, how large, and until when. */

import type { Entry } from "../history.ts";
import type { Uploader } from "../uploader.ts";
import { formatBytes, formatMoment, type Words } from "../words/index.ts";
import { Download } from "./download.tsx";
import type { Ask } from "./sure.tsx";

interface Props {
  uploader: Uploader | undefined;
  words: Words;
  /** Before something is deleted. */
  ask: Ask;
}

export function HistoryTable({ uploader, words, ask }: Props) {
  const entries = uploader?.history.list() ?? [];
  return (
    <section class="history" aria-labelledby="history-title">
      <h2 id="history-title">{words.history}</h2>
      {entries.length === 0 || uploader === undefined ? (
        <p>{words.historyNothing}</p>
      ) : (
        <ul role="list">
          {entries.map((entry) => (
            <Row
              key={entry.id}
              entry={entry}
              uploader={uploader}
              words={words}
              remove={() =>
                ask(words.historyDeleteSure(entry.name), () => void uploader.remove(entry))
              }
            />
          ))}
        </ul>
      )}
    </section>
  );
}

interface RowProps {
  entry: Entry;
  uploader: Uploader;
  words: Words;
  remove: () => void;
}

function Row({ entry, uploader, words, remove }: RowProps) {
  const isHere = uploader.uppy.getFiles().some((file) => file.id === entry.id);
  return (
    <li class={entry.isFinished ? "finished" : "unfinished"}>
      <div class="what">
        {entry.isFinished && entry.url !== null ? (
          <Download uploader={uploader} url={entry.url} name={entry.name} />
        ) : (
          <span>{entry.name}</span>
        )}
        <small>
          {[
            formatBytes(entry.size, words),
            formatMoment(entry.changedAt, words),
            entry.isFinished ? words.historyFinished : words.historyUnderWay,
            ...(entry.expiresAt === null
              ? []
              : [words.historyExpires(formatMoment(entry.expiresAt, words))]),
          ].join(" · ")}
          {entry.isFinished || isHere ? "" : ` · ${words.historyGoOn}`}
        </small>
      </div>
      <div class="buttons">
        {entry.isFinished || !isHere ? (
          <button
            type="button"
            aria-label={words.namedButton(words.historyDelete, entry.name)}
            onClick={remove}
          >
            {words.historyDelete}
          </button>
        ) : null}
        {entry.isFinished ? (
          <button
            type="button"
            aria-label={words.namedButton(words.historyForget, entry.name)}
            onClick={() => uploader.forget(entry.id)}
          >
            {words.historyForget}
          </button>
        ) : null}
      </div>
    </li>
  );
}
