/** How busy the server is, over the last minutes: for whoever runs it. */

import { useCallback, useState } from "preact/hooks";
import type { Server, Stats } from "../server.ts";
import { formatBytes, formatMoment, type Words } from "../words/index.ts";
import { usePolled } from "./polled.ts";
import { Problem } from "./problem.tsx";

interface Props {
  server: Server;
  words: Words;
  /** The server does not know who asks. */
  unknown: () => void;
}

/** Samples, five minutes of them. */
const KEPT = 150;
/** A curve is as wide as so many at least, a minute of them. */
const ACROSS = 30;

export function Operator({ server, words, unknown }: Props) {
  const [isOpen, setOpen] = useState(false);
  const [samples, setSamples] = useState<Stats[]>([]);
  const ask = useCallback(async () => {
    const stats = await server.stats();
    setSamples((known) => [...known, stats].slice(-KEPT));
  }, [server]);
  const failure = usePolled(isOpen, ask, unknown);
  const last = samples.at(-1);
  return (
    <details class="operator" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{words.operator}</summary>
      <Problem failure={failure} words={words} />
      {last ? <Shown last={last} samples={samples} words={words} /> : null}
    </details>
  );
}

function Shown({ last, samples, words }: { last: Stats; samples: Stats[]; words: Words }) {
  const bytes = (count: number) => formatBytes(count, words);
  const speed = (count: number) => words.perSecond(bytes(count));
  const facts = [
    [words.operatorOpen, words.operatorOpenActive(last.open, last.active)],
    [words.operatorReceived, bytes(last.since_start.received)],
    [words.operatorFinished, String(last.since_start.finished)],
    ...(last.disk ? [[words.operatorDisk, bytes(last.disk.free)]] : []),
    [words.operatorSince, formatMoment(last.started_at * 1000, words)],
    [words.operatorVersion, words.operatorWorkers(last.version, last.workers)],
  ];
  return (
    <>
      <div class="curves">
        <Curve label={words.operatorSpeed} values={samples.map((each) => each.speed)} say={speed} />
        <Curve
          label={words.operatorMemory}
          values={samples.map((each) => each.memory)}
          say={bytes}
        />
      </div>
      <dl class="facts">
        {facts.map(([what, says]) => (
          <div key={what}>
            <dt>{what}</dt>
            <dd>{says}</dd>
          </div>
        ))}
      </dl>
      <h3>{words.operatorErrors}</h3>
      {last.errors.length === 0 ? (
        <p>{words.operatorNoErrors}</p>
      ) : (
        <ul role="list" class="errors">
          {last.errors.map(({ status, code, count }) => (
            <li key={`${status} ${code}`}>
              <span>
                {status} {code}
              </span>
              <span>{count}</span>
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

interface CurveProps {
  label: string;
  values: number[];
  say: (value: number) => string;
}

function Curve({ label, values, say }: CurveProps) {
  const most = Math.max(1, ...values);
  // The newest is at the right, however many there are.
  const across = Math.max(ACROSS, values.length);
  const points = values.map(
    (value, at) => `${across - values.length + at},${40 - (38 * value) / most}`,
  );
  return (
    <figure>
      <figcaption>
        <span>{label}</span> <strong>{say(values.at(-1) ?? 0)}</strong>
      </figcaption>
      <svg viewBox={`0 0 ${across - 1} 40`} preserveAspectRatio="none" aria-hidden="true">
        <polyline points={points.join(" ")} />
      </svg>
    </figure>
  );
}
