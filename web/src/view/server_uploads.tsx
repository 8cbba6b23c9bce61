/** What the server has: how far each upload is, how large, where to get it, and until when. */

import { useState } from "preact/hooks";
import { explain } from "../errors.ts";
import { type Server, type ServerUpload, Unanswered } from "../server.ts";
import type { Uploader } from "../uploader.ts";
import { formatBytes, formatMoment, type Words } from "../words/index.ts";
import { Download } from "./download.tsx";
import { Problem } from "./problem.tsx";
import { SpeedLimit } from "./speed_limit.tsx";
import type { Ask } from "./sure.tsx";
import { useWatched } from "./watched.ts";

/** How many are shown, and how many more with each press of a button. */
const STEP = 50;
/** The server tells no more at once. */
const MOST = 500;

interface Props {
  server: Server;
  uploader: Uploader | undefined;
  words: Words;
  /** Before something is deleted. */
  ask: Ask;
  /** The server does not know who asks. */
  unknown: () => void;
}

export function ServerUploads({ server, uploader, words, ask, unknown }: Props) {
  const [isOpen, setOpen] = useState(false);
  const [most, setMost] = useState(STEP);
  const { listed, failure, learn } = useWatched(isOpen, server, uploader, most, unknown);
  const change = async (upload: ServerUpload, changing: () => Promise<unknown>) => {
    try {
      await changing();
    } catch (error) {
      if (!(error instanceof Unanswered)) throw error;
      const says = explain(error.failure, words);
      uploader?.tell(upload.id, words.errorPrefix(nameOf(upload), says), true);
    }
  };
  return (
    <details class="server" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{words.server}</summary>
      <Problem failure={failure} words={words} />
      {listed?.uploads.length === 0 ? <p>{words.historyNothing}</p> : null}
      <ul role="list">
        {listed?.uploads.map((upload) => (
          <Row
            key={upload.id}
            upload={upload}
            uploader={uploader}
            words={words}
            pause={(paused) => void change(upload, () => server.control(upload, { paused }))}
            limit={(most) =>
              change(upload, async () => {
                const { max_speed } = await server.control(upload, { max_speed: most });
                learn(upload.id, { max_speed });
              })
            }
            remove={() =>
              ask(
                words.historyDeleteSure(nameOf(upload)),
                () => void change(upload, () => server.terminate(upload)),
              )
            }
          />
        ))}
      </ul>
      {listed?.next && most < MOST ? (
        <button type="button" onClick={() => setMost(most + STEP)}>
          {words.serverMore}
        </button>
      ) : null}
    </details>
  );
}

/** Who sends no name is known by the id. */
function nameOf({ filename, id }: ServerUpload): string {
  return filename || id;
}

interface RowProps {
  upload: ServerUpload;
  uploader: Uploader | undefined;
  words: Words;
  /** What comes of it is told by the server's events, as of `remove`. */
  pause: (isPaused: boolean) => void;
  limit: (maxSpeed: number | null) => Promise<void>;
  remove: () => void;
}

function Row({ upload, uploader, words, pause, limit, remove }: RowProps) {
  const name = nameOf(upload);
  const { state, offset, length, created_at, expires_at, speed = 0 } = upload;
  const isPaused = state === "paused";
  const isOpen = state === "receiving" || isPaused;
  const pauses = isPaused ? words.serverResume : words.serverPause;
  const bytes = (count: number) => formatBytes(count, words);
  const size = length === null ? "?" : bytes(length);
  const facts = [
    isOpen ? words.serverSoFar(bytes(offset), size) : size,
    words.states[state],
    ...(state === "receiving" && speed > 0 ? [words.perSecond(bytes(speed))] : []),
    formatMoment(created_at * 1000, words),
    ...(expires_at === null ? [] : [words.historyExpires(formatMoment(expires_at * 1000, words))]),
  ];
  return (
    <li class={state}>
      <div class="what">
        {upload.download && uploader ? (
          <Download uploader={uploader} url={upload.url} name={name} />
        ) : (
          <span>{name}</span>
        )}
        <small>{facts.join(" · ")}</small>
        {isOpen && length ? (
          <progress max={length} value={offset} aria-label={words.serverProgress(name)} />
        ) : null}
      </div>
      <div class="buttons">
        {isOpen ? (
          <SpeedLimit name={name} maxSpeed={upload.max_speed} words={words} limit={limit} />
        ) : null}
        {isOpen ? (
          <button
            type="button"
            aria-label={words.namedButton(pauses, name)}
            onClick={() => pause(!isPaused)}
          >
            {pauses}
          </button>
        ) : null}
        <button
          type="button"
          aria-label={words.namedButton(words.serverDelete, name)}
          onClick={remove}
        >
          {words.serverDelete}
        </button>
      </div>
    </li>
  );
}
