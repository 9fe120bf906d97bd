/** The server's messages as this client reads them, validated on arrival. Pure. */

import { HuahuoError } from "../model/errors.js";
import type { DictionaryPlace } from "./inflow.js";
import type { Outcome } from "../model/model.js";
import type { PartOf } from "./parts.js";

export interface Place {
  readonly outcome: Outcome;
  readonly after: number;
  readonly first: number;
  readonly head: number;
}

export type EventsFrame = { type: "events"; stream: string; seq: number; events: Record<string, unknown>[] };
export type SnapshotFrame = {
  type: "snapshot"; stream: string; seq: number; check?: string; state: Record<string, unknown>;
} & PartOf;
export type LiveFrame = { type: "live"; stream: string; seq: number; check?: string };
export type SkippedFrame = { type: "skipped"; stream: string; seq: number; to: number; reason: string };
export type AuthFrame = {
  type: "authentication_result"; success: boolean; message: string; code: string; session: string;
  log: string; user: Record<string, unknown>; heartbeat_s: number; window: number;
  streams: Record<string, Place>; dictionary?: DictionaryPlace | null;
};
export type SubscribedFrame = { type: "subscribed"; id: string; stream: string; log: string } & Place;
export type GoawayFrame = { type: "goaway"; code: number; reason: string; retry_s?: [number, number] | null };

export type Known =
  | EventsFrame | SnapshotFrame | SkippedFrame | AuthFrame | SubscribedFrame | GoawayFrame
  | { type: "unsubscribed"; stream: string; reason?: string; retry_s?: number }
  | LiveFrame
  | { type: "lag"; stream: string; behind: number }
  | { type: "token_expiring"; in_s: number }
  | { type: "heartbeat" };

/** A reply, or a message that this version does not know. */
export type Other = { type: string; id?: unknown } & Record<string, unknown>;

const TYPES = new Set([
  "events", "snapshot", "skipped", "authentication_result", "subscribed", "unsubscribed", "live", "lag",
  "token_expiring", "goaway", "heartbeat",
]);
/** Fields that are positions wherever they occur. */
const POSITIONS = ["seq", "to", "after", "first", "head", "part"] as const;

/**
 * Parse one message.
 *
 * @throws HuahuoError `protocol_violation`: it cannot be parsed, or a field has the wrong type
 */
export function parse(text: string): Known | Other {
  try {
    const message = JSON.parse(text) as Other;
    const isPlace = (name: string) => message[name] === undefined || Number.isSafeInteger(message[name]);
    const { type, events = [], stream = "" } = message;
    if (typeof type + typeof stream === "stringstring" && Array.isArray(events) && POSITIONS.every(isPlace)) {
      return message;
    }
  } catch {
    // neither JSON nor an object
  }
  throw new HuahuoError("protocol_violation", "the server sent a message that cannot be read");
}

export const isKnown = (message: Known | Other): message is Known => TYPES.has(message.type);
