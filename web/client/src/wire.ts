/** The server's messages as this client reads them, checked at the border. Pure. */

import { HuahuoError } from "./errors.js";
import type { Outcome } from "./model.js";

export interface Place {
  readonly outcome: Outcome;
  readonly after: number;
  readonly first: number;
  readonly head: number;
}

export type EventsFrame = { type: "events"; stream: string; seq: number; events: Record<string, unknown>[] };
export type SnapshotFrame = { type: "snapshot"; stream: string; seq: number; state: Record<string, unknown> };
export type SkippedFrame = { type: "skipped"; stream: string; seq: number; to: number; reason: string };
export type AuthFrame = {
  type: "authentication_result"; success: boolean; message: string; code: string; session: string;
  log: string; user: Record<string, unknown>; heartbeat_s: number; window: number;
  streams: Record<string, Place>;
};
export type SubscribedFrame = { type: "subscribed"; id: string; stream: string; log: string } & Place;
export type GoawayFrame = { type: "goaway"; code: number; reason: string; retry_s?: [number, number] | null };

export type Known =
  | EventsFrame | SnapshotFrame | SkippedFrame | AuthFrame | SubscribedFrame | GoawayFrame
  | { type: "unsubscribed"; stream: string; reason?: string }
  | { type: "live"; stream: string; seq: number }
  | { type: "lag"; stream: string; behind: number }
  | { type: "token_expiring"; in_s: number }
  | { type: "heartbeat" };

/** A reply, or what this version does not know. */
export type Other = { type: string; id?: unknown } & Record<string, unknown>;

/** Required fields and their kinds: s text, n number, b boolean, o object, a list. */
const SHAPES: Readonly<Record<string, string>> = {
  events: "stream:s seq:n events:a",
  snapshot: "stream:s seq:n state:o",
  skipped: "stream:s seq:n to:n",
  authentication_result: "success:b",
  subscribed: "id:s stream:s outcome:s",
  unsubscribed: "stream:s",
  live: "stream:s seq:n",
  lag: "stream:s behind:n",
  token_expiring: "in_s:n",
  goaway: "code:n",
  heartbeat: "",
};

const kindOf = (value: unknown): string =>
  Array.isArray(value) ? "a" : value === null ? "-" : (typeof value).charAt(0);

/**
 * One message.
 *
 * @throws HuahuoError `protocol_violation`: it cannot be read, or a field is of the wrong kind
 */
export function parse(text: string): Known | Other {
  let message: unknown;
  try {
    message = JSON.parse(text);
  } catch {
    message = null;
  }
  if (kindOf(message) === "o") {
    const fields = message as Other;
    const shape = SHAPES[fields.type] ?? "";
    const fits = (field: string) => kindOf(fields[field.slice(0, -2)]) === field.slice(-1);
    if (shape === "" || shape.split(" ").every(fits)) return fields;
  }
  throw new HuahuoError("protocol_violation", "the server sent a message that cannot be read");
}

export const isKnown = (message: Known | Other): message is Known => Object.hasOwn(SHAPES, message.type);
