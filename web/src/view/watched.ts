/** The uploads on the server, as they are at every moment, as long as they are shown. */

import { useEffect, useState } from "preact/hooks";
import type { Failure } from "../errors.ts";
import { UNKNOWN } from "../errors.ts";
import { listen, type Told } from "../events.ts";
import type { Listed, Server, ServerUpload } from "../server.ts";

/**
 * @param isShown Whether anybody looks.
 * @param most How many are listed at first.
 * @param unknown Called when the server does not know who asks, which ends it.
 * @returns The uploads, and why they are not known or not kept up to date, if so.
 */
export function useWatched(
  isShown: boolean,
  server: Server,
  most: number,
  unknown: () => void,
): [Listed | undefined, Failure | undefined] {
  const [listed, setListed] = useState<Listed>();
  const [failure, setFailure] = useState<Failure>();
  useEffect(() => {
    if (!isShown) return undefined;
    const ended = new AbortController();
    const listener = {
      load: async () => {
        const loaded = await server.list(most);
        if (!ended.signal.aborted) setListed(loaded);
      },
      told: (told: Told) => setListed((known) => known && taken(known, told)),
      failed: (why: Failure | undefined) => {
        setFailure(why);
        if (why?.status === UNKNOWN) unknown();
      },
    };
    void listen(server, listener, ended.signal);
    return () => ended.abort();
  }, [isShown, server, most]);
  return [listed, failure];
}

/** The list after what was told. */
function taken(listed: Listed, told: Told): Listed {
  const { uploads } = listed;
  if (told.event === "ready") return listed;
  const { id } = told.data;
  const at = uploads.findIndex((upload) => upload.id === id);
  if (told.event === "progress") {
    const { offset, length, speed } = told.data;
    return { ...listed, uploads: replaced(uploads, at, { offset, length, speed }) };
  }
  const { upload } = told.data;
  const isGone = upload === null || upload.state === "terminated" || upload.state === "expired";
  if (isGone) return { ...listed, uploads: uploads.filter((each) => each.id !== id) };
  if (at >= 0) return { ...listed, uploads: replaced(uploads, at, { ...upload, speed: 0 }) };
  // An old one that is not shown may change, too; a part of another upload is not listed at all.
  const isNew = told.event === "created" && !upload.partial;
  return isNew ? { ...listed, uploads: [upload, ...uploads] } : listed;
}

function replaced(
  uploads: ServerUpload[],
  at: number,
  changes: Partial<ServerUpload>,
): ServerUpload[] {
  return uploads.map((upload, index) => (index === at ? { ...upload, ...changes } : upload));
}
