/** What a failed check means: its kind, and what the mail server itself said. Pure. */

import { type Failure, FAILURES } from "../words/failures";

export interface Told {
  readonly failure: Failure;
  /** The server's own words, "" if it said none. */
  readonly server: string;
}

/** The kind of failure that a row's message tells of; the longest that fits. Null: it is none that is known. */
export function failureOf(message: string): Told | null {
  let found: Told | null = null;
  for (const failure of FAILURES) {
    if (!message.startsWith(failure.message) || failure.message.length <= (found?.failure.message.length ?? 0)) continue;
    const rest = message.slice(failure.message.length);
    if (rest === "" || rest.startsWith(": ")) found = { failure, server: rest.slice(2) };
  }
  return found;
}
