/**
 * Computes the checksum of a chunk beside the page.
 *
 * A browser has its own functions for that only where the page came over TLS or from this machine;
 * elsewhere (http in a local network) a library does it, several times slower.
 */

import { sha1 } from "@noble/hashes/legacy.js";
import { sha256 } from "@noble/hashes/sha2.js";
import type { Answer, Question } from "./hash.ts";

const NAMES = { sha1: "SHA-1", sha256: "SHA-256" } as const;
const FUNCTIONS = { sha1, sha256 };

async function digest({ algorithm, chunk }: Question): Promise<Uint8Array> {
  const bytes = await chunk.arrayBuffer();
  const subtle = globalThis.crypto?.subtle;
  if (subtle) return new Uint8Array(await subtle.digest(NAMES[algorithm], bytes));
  return FUNCTIONS[algorithm](new Uint8Array(bytes));
}

function base64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

addEventListener("message", async (event: MessageEvent<Question>) => {
  const { id } = event.data;
  let answer: Answer;
  try {
    answer = { id, digest: base64(await digest(event.data)) };
  } catch (error) {
    answer = { id, error: String(error) };
  }
  postMessage(answer);
});
