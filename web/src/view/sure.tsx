/** A question before something is deleted. */

import type { VNode } from "preact";
import { useRef, useState } from "preact/hooks";
import type { Words } from "../words/index.ts";

/** Asks, and does it if the answer is yes. */
export type Ask = (question: string, act: () => void) => void;

/** The question's dialog, and what asks it. */
export function useSure(words: Words): [Ask, VNode] {
  const dialog = useRef<HTMLDialogElement>(null);
  const [asked, setAsked] = useState({ question: "", act: () => {} });
  const ask: Ask = (question, act) => {
    setAsked({ question, act });
    dialog.current?.showModal();
  };
  const shown = (
    <dialog ref={dialog} aria-labelledby="delete-title">
      <p id="delete-title">{asked.question}</p>
      <form method="dialog" class="buttons">
        <button type="submit">{words.cancel}</button>
        <button type="submit" class="danger" onClick={() => asked.act()}>
          {words.historyDelete}
        </button>
      </form>
    </dialog>
  );
  return [ask, shown];
}
