/** What the page can do, and how. */

import type { RefObject } from "preact";
import type { Words } from "../words/index.ts";

export function Help({ dialog, words }: { dialog: RefObject<HTMLDialogElement>; words: Words }) {
  return (
    <dialog ref={dialog} class="help" aria-labelledby="help-title">
      <h2 id="help-title">{words.helpTitle}</h2>
      <dl>
        {words.helpLines.map(([what, how]) => (
          <div key={what}>
            <dt>{what}</dt>
            <dd>{how}</dd>
          </div>
        ))}
      </dl>
      <form method="dialog" class="buttons">
        <button type="submit">{words.close}</button>
      </form>
    </dialog>
  );
}
