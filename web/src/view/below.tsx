/** What stands below the dashboard: messages, and the chunks of what is under way. */

import type { Ledger } from "../wire/ledger.ts";
import type { Uploader } from "../uploader.ts";
import { formatBytes, type Words } from "../words/index.ts";

const WIDTH = 1000;

export function Below({ uploader, words }: { uploader: Uploader; words: Words }) {
  return (
    <>
      <Notices uploader={uploader} words={words} />
      <Chunks uploader={uploader} words={words} />
    </>
  );
}

function Notices({ uploader, words }: { uploader: Uploader; words: Words }) {
  const notices = [...uploader.notices.values()];
  return (
    <section class="notices" aria-label={words.problems}>
      <ul role="list" aria-live="polite">
        {notices.map((notice) => (
          <li key={notice.key} class={notice.isError ? "notice error" : "notice"}>
            <span>{notice.text}</span>
            <button
              type="button"
              class="quiet"
              aria-label={`${words.close}: ${notice.text}`}
              onClick={() => uploader.untell(notice.key)}
            >
              ×
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Chunks({ uploader, words }: { uploader: Uploader; words: Words }) {
  const rows = uploader.uppy.getFiles().flatMap((file) => {
    const ledger = uploader.ledgers.get(file.id);
    return ledger ? [{ id: file.id, name: file.name, ledger }] : [];
  });
  return (
    <details class="chunks">
      <summary>{words.parts}</summary>
      {rows.length === 0 ? (
        <p>{words.partsNothing}</p>
      ) : (
        <>
          <p class="legend">
            {(
              [
                ["stored", words.partsStored],
                ["acknowledged", words.partsAcknowledged],
                ["flying", words.partsInFlight],
                ["missing", words.partsMissing],
              ] as const
            ).map(([kind, text]) => (
              <span key={kind}>
                <svg class="key" viewBox="0 0 10 10" aria-hidden="true">
                  <rect class={kind} width="10" height="10" />
                </svg>
                {text}
              </span>
            ))}
          </p>
          <ul role="list">
            {rows.map(({ id, name, ledger }) => (
              <li key={id}>
                <Bar name={name} ledger={ledger} words={words} />
              </li>
            ))}
          </ul>
        </>
      )}
    </details>
  );
}

function Bar({ name, ledger, words }: { name: string; ledger: Ledger; words: Words }) {
  const bytes = (count: number) => formatBytes(count, words);
  const flights = [...ledger.flights];
  const flying = flights.reduce((sum, flight) => sum + flight.sent, 0);
  const line = words.partsLine(
    bytes(ledger.acknowledged.total),
    bytes(ledger.stored.total),
    bytes(flying),
    bytes(ledger.size),
  );
  const { chunks, mishaps } = ledger;
  const chunk = Number.isFinite(chunks.bytes)
    ? words.partsNow(bytes(chunks.bytes))
    : words.partsWhole;
  const latest = mishaps.at(-1);
  return (
    <>
      <div class="name">{name}</div>
      <svg class="bar" viewBox={`0 0 ${WIDTH} 10`} preserveAspectRatio="none" aria-hidden="true">
        <rect class="missing" width={WIDTH} height="10" />
        {ledger.stored.list.map((range) => (
          <Span kind="stored" {...range} size={ledger.size} />
        ))}
        {ledger.acknowledged.list.map((range) => (
          <Span kind="acknowledged" {...range} size={ledger.size} />
        ))}
        {flights.map(({ start, end, sent }) => (
          <>
            <Span kind="waiting" start={start} end={end} size={ledger.size} />
            <Span kind="flying" start={start} end={start + sent} size={ledger.size} />
          </>
        ))}
      </svg>
      <p class="facts">
        {line}
        <br />
        {words.partsRequests(ledger.count, chunk)}
        {latest ? `; ${words.partsAgain(mishaps.length, bytes(latest.at))}` : ""}
      </p>
    </>
  );
}

interface SpanProps {
  kind: string;
  start: number;
  end: number;
  size: number;
}

function Span({ kind, start, end, size }: SpanProps) {
  const scale = WIDTH / Math.max(1, size);
  return <rect class={kind} x={start * scale} width={Math.max(0, end - start) * scale} height="10" />;
}
