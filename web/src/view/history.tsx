/** The uploads of this browser: where they are, how large, and until when. */

import { useRef, useState } from "preact/hooks";
import type { Entry } from "../history.ts";
import type { Uploader } from "../uploader.ts";
import { formatBytes, formatMoment, type Words } from "../words/index.ts";

interface Props {
  uploader: Uploader | undefined;
  words: Words;
}

export function HistoryTable({ uploader, words }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [asked, setAsked] = useState<Entry>();
  const entries = uploader?.history.list() ?? [];
  const ask = (entry: Entry) => {
    setAsked(entry);
    dialog.current?.showModal();
  };
  return (
    <section class="history" aria-labelledby="history-title">
      <h2 id="history-title">{words.history}</h2>
      {entries.length === 0 || uploader === undefined ? (
        <p>{words.historyNothing}</p>
      ) : (
        <ul role="list">
          {entries.map((entry) => (
            <Row key={entry.id} entry={entry} uploader={uploader} words={words} ask={ask} />
          ))}
        </ul>
      )}
      <dialog ref={dialog} aria-labelledby="delete-title">
        <p id="delete-title">{asked ? words.historyDeleteSure(asked.name) : ""}</p>
        <form method="dialog" class="buttons">
          <button type="submit">{words.cancel}</button>
          <button
            type="submit"
            class="danger"
            onClick={() => asked && void uploader?.remove(asked)}
          >
            {words.historyDelete}
          </button>
        </form>
      </dialog>
    </section>
  );
}

interface RowProps {
  entry: Entry;
  uploader: Uploader;
  words: Words;
  ask: (entry: Entry) => void;
}

function Row({ entry, uploader, words, ask }: RowProps) {
  const isHere = uploader.uppy.getFiles().some((file) => file.id === entry.id);
  return (
    <li class={entry.isFinished ? "finished" : "unfinished"}>
      <div class="what">
        {entry.isFinished && entry.url !== null ? (
          <a href={entry.url} download={entry.name}>
            {entry.name}
          </a>
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
            onClick={() => ask(entry)}
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
