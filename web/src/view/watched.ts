/** The uploads on the server, as they are at every moment, as long as anybody wants to know. */

import { useEffect, useState } from "preact/hooks";
import type { Failure } from "../errors.ts";
import { UNKNOWN } from "../errors.ts";
import { listen, type Told } from "../events.ts";
import type { Listed, Server, ServerUpload } from "../server.ts";
import type { Uploader } from "../uploader.ts";

interface Watched {
  /** Undefined as long as they are not known. */
  listed: Listed | undefined;
  /** Why they are not known, or not kept up to date, if so. */
  failure: Failure | undefined;
  /** Takes in what was learned in another way: events do not tell of every change. */
  learn: (id: string, changes: Partial<ServerUpload>) => void;
}

/**
 * The files of this page that were paused on the server go on when they are resumed there.
 *
 * @param isShown Whether anybody looks.
 * @param most How many are listed at first.
 * @param unknown Called when the server does not know who asks, which ends it.
 */
export function useWatched(
  isShown: boolean,
  server: Server,
  uploader: Uploader | undefined,
  most: number,
  unknown: () => void,
): Watched {
  const [listed, setListed] = useState<Listed>();
  const [failure, setFailure] = useState<Failure>();
  const isWanted = isShown || (uploader?.isHeld ?? false);
  useEffect(() => {
    if (!isWanted) return undefined;
    const ended = new AbortController();
    const listener = {
      load: async () => {
        const loaded = await server.list(most);
        if (ended.signal.aborted) return;
        setListed(loaded);
        for (const { id, state } of loaded.uploads) if (state !== "paused") uploader?.goOn(id);
      },
      told: (told: Told) => {
        setListed((known) => known && taken(known, told));
        if (told.event === "changed" && told.data.upload?.state !== "paused") {
          uploader?.goOn(told.data.id);
        }
      },
      failed: (why: Failure | undefined) => {
        setFailure(why);
        if (why?.status === UNKNOWN) unknown();
      },
    };
    void listen(server, listener, ended.signal);
    return () => ended.abort();
  }, [isWanted, server, uploader, most]);
  const learn = (id: string, changes: Partial<ServerUpload>) =>
    setListed((known) => known && changed(known, id, changes));
  return { listed, failure, learn };
}

/** The list after what was told. */
function taken(listed: Listed, told: Told): Listed {
  const { uploads } = listed;
  if (told.event === "ready") return listed;
  const { id } = told.data;
  if (told.event === "progress") {
    const { offset, length, speed } = told.data;
    return changed(listed, id, { offset, length, speed });
  }
  const { upload } = told.data;
  const isGone = upload === null || upload.state === "terminated" || upload.state === "expired";
  if (isGone) return { ...listed, uploads: uploads.filter((each) => each.id !== id) };
  const isListed = uploads.some((each) => each.id === id);
  if (isListed) return changed(listed, id, { ...upload, speed: 0 });
  // An old one that is not shown may change, too; a part of another upload is not listed at all.
  const isNew = told.event === "created" && !upload.partial;
  return isNew ? { ...listed, uploads: [upload, ...uploads] } : listed;
}

function changed(listed: Listed, id: string, changes: Partial<ServerUpload>): Listed {
  const uploads = listed.uploads.map((each) => (each.id === id ? { ...each, ...changes } : each));
  return { ...listed, uploads };
}
