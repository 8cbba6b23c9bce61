/** Where the server takes no uploads from people it does not know: a token for it. */

import { useId } from "preact/hooks";
import type { Words } from "../words/index.ts";

interface Props {
  /** Empty for none. */
  token: string;
  /** Whether the server has said that it does not know who sends. */
  isUnknown: boolean;
  words: Words;
  enter: (token: string) => void;
}

export function SignIn({ token, isUnknown, words, enter }: Props) {
  const id = useId();
  if (!isUnknown && token === "") return null;
  if (!isUnknown) {
    return (
      <section class="sign-in" aria-label={words.signIn}>
        <p>{words.signedIn}</p>
        <button type="button" onClick={() => enter("")}>
          {words.signOut}
        </button>
      </section>
    );
  }
  return (
    <form
      class="sign-in"
      aria-label={words.signIn}
      onSubmit={(event) => {
        event.preventDefault();
        enter(String(new FormData(event.currentTarget).get("token")).trim());
      }}
    >
      <p id={`${id}-hint`}>{words.signInSay}</p>
      {token === "" ? null : (
        <p class="problem" role="alert">
          {words.signInWrong}
        </p>
      )}
      <label for={id}>{words.signInToken}</label>
      <input
        id={id}
        name="token"
        type="password"
        required
        autocomplete="off"
        aria-describedby={`${id}-hint`}
      />
      <button type="submit">{words.signIn}</button>
    </form>
  );
}
