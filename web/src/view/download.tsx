/** The name of a finished upload, by which it is saved. */

import type { Uploader } from "../uploader.ts";

interface Props {
  uploader: Uploader;
  url: string;
  name: string;
}

export function Download({ uploader, url, name }: Props) {
  return (
    <a
      href={url}
      download={name}
      onClick={(event) => {
        // A link can send no token.
        if (Object.keys(uploader.headers).length === 0) return;
        event.preventDefault();
        void uploader.download(url, name);
      }}
    >
      {name}
    </a>
  );
}
