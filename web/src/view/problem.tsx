/** Why the server told nothing. */

import { explain, type Failure } from "../errors.ts";
import type { Words } from "../words/index.ts";

export function Problem({ failure, words }: { failure: Failure | undefined; words: Words }) {
  return (
    <p class="problem" role="status">
      {failure ? explain(failure, words) : ""}
    </p>
  );
}
