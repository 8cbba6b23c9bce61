/** What is asked for again and again, as long as it is shown. */

import { useEffect, useState } from "preact/hooks";
import { type Failure, UNKNOWN } from "../errors.ts";
import { Unanswered } from "../server.ts";

const EVERY = 2000; // milliseconds

/**
 * Asks at once, and then every two seconds.
 *
 * @param isShown Whether anybody looks.
 * @param ask Asks, and shows the answer; another one is asked at once.
 * @param unknown Called when the server does not know who asks, which ends it.
 * @returns Why there was no answer the last time.
 */
export function usePolled(
  isShown: boolean,
  ask: () => Promise<void>,
  unknown: () => void,
): Failure | undefined {
  const [failure, setFailure] = useState<Failure>();
  useEffect(() => {
    if (!isShown) return undefined;
    let isEnded = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const askOnce = async () => {
      let failed: Failure | undefined;
      try {
        await ask();
      } catch (error) {
        if (!(error instanceof Unanswered)) throw error;
        failed = error.failure;
      }
      if (isEnded) return;
      setFailure(failed);
      if (failed?.status === UNKNOWN) unknown();
      else timer = setTimeout(askOnce, EVERY);
    };
    void askOnce();
    return () => {
      isEnded = true;
      clearTimeout(timer);
    };
  }, [isShown, ask]);
  return failure;
}
