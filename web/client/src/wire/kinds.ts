/** The kinds of messages that the server sends of itself. Written by scripts/pages.py: do not edit. */

import type { Outcome } from "../model/model.js";
import type { DictionaryPlace } from "./inflow.js";

export interface Place {
  readonly outcome: Outcome;
  readonly after: number;
  readonly first: number;
  readonly head: number;
}

/** PROTOCOL 3.1, success and failure. */
export interface AuthResultFrame {
  readonly type: "authentication_result";
  readonly success: boolean;
  readonly message: string;
  readonly code: string;
  readonly session: string;
  readonly log: string;
  readonly user: Record<string, unknown>;
  readonly expires_at: string;
  readonly heartbeat_s: number;
  readonly window: number;
  readonly streams: Record<string, Place>;
  readonly dictionary?: DictionaryPlace | null;
}

/** PROTOCOL 3.2. Without an id: it follows a `pending` of an `authentication_result`. */
export interface SubscribedFrame {
  readonly type: "subscribed";
  readonly stream: string;
  readonly outcome: Outcome;
  readonly id: string;
  readonly log: string;
  readonly after: number;
  readonly first: number;
  readonly head: number;
}

/** The answer to `unsubscribe`, or (with `reason`) the end of a subscription; `retry_s`: only for now. */
export interface UnsubscribedFrame {
  readonly type: "unsubscribed";
  readonly stream: string;
  readonly id?: string;
  readonly reason?: string;
  readonly retry_s?: number | null;
}

/** A contiguous run: its events are `seq`, `seq + 1` and so on. */
export interface EventsFrame {
  readonly type: "events";
  readonly stream: string;
  readonly seq: number;
  readonly events: Record<string, unknown>[];
}

/** Caught up with the head; once per subscription. */
export interface LiveFrame {
  readonly type: "live";
  readonly stream: string;
  readonly seq: number;
  readonly check?: string;
}

/** The state after event `seq`, or a part of it; the next event is `seq + 1`. */
export interface SnapshotFrame {
  readonly type: "snapshot";
  readonly stream: string;
  readonly seq: number;
  readonly state: Record<string, unknown>;
  readonly check?: string;
  readonly part?: number;
  readonly more?: boolean;
}

/** Events `seq`…`to` were pruned; the cursor moves to `to`. */
export interface SkippedFrame {
  readonly type: "skipped";
  readonly stream: string;
  readonly seq: number;
  readonly to: number;
  readonly reason: string;
}

/** The window is full and `behind` events wait; at most once a second. */
export interface LagFrame {
  readonly type: "lag";
  readonly stream: string;
  readonly behind: number;
}

/** The token has `in_s` seconds left. */
export interface TokenExpiringFrame {
  readonly type: "token_expiring";
  readonly in_s: number;
}

/** The server will close the connection with `code`. */
export interface GoawayFrame {
  readonly type: "goaway";
  readonly code: number;
  readonly reason: string;
  readonly retry_s?: [number, number] | null;
}

/** The server asks for an answer, to see that the client is alive. */
export interface HeartbeatFrame {
  readonly type: "heartbeat";
  readonly timestamp?: string;
}

/** The answer to `follow`: `view` names the list from now on. Without an id: its rows are others now. */
export interface FollowingFrame {
  readonly type: "following";
  readonly outcome: Outcome;
  readonly id?: string;
  readonly view: number;
  readonly was?: number;
  readonly log: string;
  readonly position: number;
  readonly of: string;
  readonly limit: number;
  readonly order: string;
}

/** What brings a followed list to the commit `position`. */
export interface RowsFrame {
  readonly type: "rows";
  readonly view: number;
  readonly position: number;
  readonly put: unknown[][];
  readonly drop: unknown[];
  readonly bound?: unknown;
  readonly reset?: boolean;
  readonly more?: boolean;
  readonly count?: number;
}

/** All followed lists contain `position`, but those whose acks are awaited. */
export interface ReachedFrame {
  readonly type: "reached";
  readonly position: number;
  readonly but?: number[];
}

/** The followed state after event `seq`, or what differs from the one before (RFC 7396). */
export interface StateFrame {
  readonly type: "state";
  readonly view: number;
  readonly seq: number;
  readonly state?: Record<string, unknown>;
  readonly patch?: Record<string, unknown>;
}

/** The answer to `unfollow`, or (with `reason`) the end of a list. */
export interface UnfollowedFrame {
  readonly type: "unfollowed";
  readonly view: number;
  readonly id?: string;
  readonly reason?: string;
}

export type Known = 
  | AuthResultFrame
  | SubscribedFrame
  | UnsubscribedFrame
  | EventsFrame
  | LiveFrame
  | SnapshotFrame
  | SkippedFrame
  | LagFrame
  | TokenExpiringFrame
  | GoawayFrame
  | HeartbeatFrame
  | FollowingFrame
  | RowsFrame
  | ReachedFrame
  | StateFrame
  | UnfollowedFrame;
/** Those that move a cursor. */
export type Moving = EventsFrame | SnapshotFrame | SkippedFrame;

export const KINDS: ReadonlySet<string> = new Set([
  "authentication_result",
  "subscribed",
  "unsubscribed",
  "events",
  "live",
  "snapshot",
  "skipped",
  "lag",
  "token_expiring",
  "goaway",
  "heartbeat",
  "following",
  "rows",
  "reached",
  "state",
  "unfollowed",
]);
export const MOVING: ReadonlySet<string> = new Set([
  "events",
  "snapshot",
  "skipped",
]);
