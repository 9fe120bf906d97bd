/**
 * The live lists and states that tabs follow over one connection (docs/live-lists.md). Pure. The rows are the
 * tabs'; here is where each list stands, and who reads it.
 *
 * A `Feed` is a list with its fields and its limit; or the state of a stream (limit 0), or its presence (-1), whose
 * `fields` are what is shown of its readers. All of its readers have got the same changes. One that
 * joins from another place is given all rows, and so are the others then.
 */

import { HuahuoError } from "../model/errors.js";
import type { Bound, ListPlace, ListRow, Order } from "../model/lists.js";
import type { TabMessage } from "../wire/messages.js";
import type { FollowingFrame, ReachedFrame, RowsFrame, StateFrame, UnfollowedFrame } from "../wire/kinds.js";

export type ListFrame = FollowingFrame | RowsFrame | ReachedFrame | StateFrame | UnfollowedFrame;

/** What a reader applies: it drops, puts, sorts and cuts. `reset`: it forgets what it has. */
export interface ListChange {
  readonly reset: boolean;
  readonly put: readonly ListRow[];
  readonly drop: readonly Bound[];
  readonly order: Order;
  readonly place: ListPlace;
}

/** News for a reader. */
export type ListHappening =
  | { readonly is: "list"; readonly reader: string; readonly change: ListChange }
  /** Its state after event `seq`, or what differs from the one before. */
  | { readonly is: "followed"; readonly reader: string; readonly seq: number; readonly state?: Json; readonly patch?: Json }
  /** Its list contains this position; its state is the newest. */
  | { readonly is: "reached"; readonly reader: string; readonly position: number }
  | { readonly is: "ended"; readonly reader: string; readonly error: HuahuoError };

type Json = Record<string, unknown>;

class Feed {
  /** By reader, up to where it has applied what came. */
  readonly readers = new Map<string, number>();
  asked = "";
  askAgain = false;
  retryAt = 0;
  view = 0;
  acked = 0;
  order: Order = "descending";
  parts: RowsFrame[] = [];

  constructor(
    readonly key: string, readonly list: string, readonly fields: object, readonly limit: number,
    public place: ListPlace | null,
  ) {}
}

const same = (one: ListPlace | null, other: ListPlace | null): boolean =>
  one?.log === other?.log && one?.of === other?.of && one?.position === other?.position;

export class Lists {
  private readonly feeds = new Map<string, Feed>();
  private readonly of = new Map<string, Feed>();
  private readonly views = new Map<number, Feed>();
  private urgent: object[] = [];
  private happened: ListHappening[] = [];
  private readonly acks = new Map<number, number>();
  private count = 0;

  /** A message of a tab that is for lists. */
  receive(message: Extract<TabMessage, { do: "follow" | "present" | "applied" }>): void {
    const { reader } = message;
    if (message.do === "follow") this.follow(reader, message.list, message.fields, message.limit, message.place);
    else if (message.do === "applied") this.applied(reader, message.position);
    else this.present(reader, message.data);
  }

  private follow(reader: string, list: string, fields: object, limit: number, place: ListPlace | null): void {
    this.detach(reader);
    const key = JSON.stringify([list, limit, limit < 0 ? "" : fields]);
    let feed = this.feeds.get(key);
    if (!feed) {
      this.feeds.set(key, (feed = new Feed(key, list, fields, limit, place)));
    } else if (!same(feed.place, place)) {
      feed.place = null;
      feed.askAgain = true;
      if (limit < 0) Object.assign(feed.fields, fields);
    }
    feed.readers.set(reader, 0);
    this.of.set(reader, feed);
  }

  /** What is shown of a reader of a presence. */
  private present(reader: string, data: unknown): void {
    const feed = this.of.get(reader);
    if (!feed) return;
    Object.assign(feed.fields, { data });
    if (feed.view) this.urgent.push({ action: "present", view: feed.view, data });
  }

  detach(reader: string): boolean {
    const feed = this.of.get(reader);
    if (!feed) return false;
    this.of.delete(reader);
    feed.readers.delete(reader);
    if (feed.readers.size === 0) this.remove(feed);
    return true;
  }

  detachAll(prefix: string): void {
    for (const reader of [...this.of.keys()]) if (reader.startsWith(prefix)) this.detach(reader);
  }

  /** The reader has applied what came up to `position`. A list is acked as far as its first reader is. */
  private applied(reader: string, position: number): void {
    const feed = this.of.get(reader);
    if (!feed) return;
    feed.readers.set(reader, position);
    if (feed.view && position > feed.acked) {
      feed.acked = position;
      this.acks.set(feed.view, position);
    }
  }

  /** The connection ended, or another one begins: each list is asked for again, from where it stands. */
  away(): void {
    this.views.clear();
    this.acks.clear();
    this.urgent = [];
    for (const feed of this.feeds.values()) {
      feed.view = feed.acked = 0;
      feed.asked = "";
      feed.parts = [];
    }
  }

  /** The messages to send now. `may`: whether one more may be sent that counts against the rate. */
  outgoing(now: number, prefix: string, may: () => boolean): object[] {
    const messages = this.urgent;
    this.urgent = [];
    if (this.acks.size > 0) {
      messages.push({ action: "ack", views: Object.fromEntries(this.acks) });
      this.acks.clear();
    }
    for (const feed of this.feeds.values()) {
      if (feed.asked || (feed.view && !feed.askAgain) || feed.retryAt > now || !may()) continue;
      const { list, fields, limit, place } = feed;
      feed.asked = `${prefix}-l${++this.count}`;
      feed.askAgain = false;
      const { log, position: seq } = place ?? {};
      messages.push({
        action: "follow", id: feed.asked,
        ...(limit > 0
          ? { list, fields, limit, ...(place && { from: place }) }
          : limit ? { presence: list, ...fields } : { state: list, ...(seq && { from: { log, seq } }) }),
      });
    }
    return messages;
  }

  /** When `outgoing` has something to send that it may not send yet. */
  nextAt(may: number): number {
    let at = Infinity;
    for (const { asked, view, askAgain, retryAt } of this.feeds.values()) {
      if (!asked && (!view || askAgain)) at = Math.min(at, Math.max(retryAt, may));
    }
    return at;
  }

  drain(): ListHappening[] {
    const { happened } = this;
    this.happened = [];
    return happened;
  }

  received(frame: ListFrame): void {
    switch (frame.type) {
      case "following":
        this.following(frame);
        return;
      case "rows": {
        const feed = this.views.get(frame.view);
        if (!feed) return;
        feed.parts.push(frame);
        if (!frame.more) this.rows(feed, frame);
        return;
      }
      case "reached":
        for (const feed of this.views.values()) {
          if (feed.limit <= 0 || !feed.place || frame.but?.includes(feed.view) || feed.place.position > frame.position) continue;
          feed.place = { ...feed.place, position: frame.position };
          for (const reader of feed.readers.keys()) this.happened.push({ is: "reached", reader, position: frame.position });
        }
        return;
      case "state": {
        const feed = this.views.get(frame.view);
        if (!feed?.place) return;
        const { seq, state, patch } = frame;
        feed.place = { ...feed.place, position: seq };
        for (const reader of feed.readers.keys()) {
          this.happened.push({ is: "followed", reader, seq, ...(state ? { state } : { patch: patch ?? {} }) });
        }
        return;
      }
      case "unfollowed": {
        const feed = this.views.get(frame.view);
        if (feed && frame.reason) this.end(feed, denied(feed));
      }
    }
  }

  /** An error answered a request of this id. False: it is none of a list. `retryAt`: when it may go better. */
  failed(id: string, error: HuahuoError, retryAt: number): boolean {
    const feed = [...this.feeds.values()].find(({ asked }) => asked === id);
    if (!feed) return false;
    feed.asked = "";
    if (retryAt) feed.retryAt = retryAt;
    else this.end(feed, error);
    return true;
  }

  private following(frame: FollowingFrame): void {
    const { id, view, was } = frame;
    const feed = id ? [...this.feeds.values()].find(({ asked }) => asked === id) : this.views.get(was ?? 0);
    if (!feed) {
      if (id && view) this.urgent.push({ action: "unfollow", view }); // nobody reads it any more
      return;
    }
    if (frame.outcome === "denied") return this.end(feed, denied(feed));
    if (feed.view !== view) this.views.delete(feed.view);
    this.views.set(view, feed);
    feed.asked = "";
    feed.view = view;
    feed.parts = [];
    feed.order = frame.order as Order;
    const { log, of, position } = frame;
    const seq = feed.place?.position ?? 0;
    feed.place = feed.limit > 0 ? { log, of, position } : { log, of: "", position: seq };
    if (feed.limit || frame.outcome !== "resumed") return;
    for (const reader of feed.readers.keys()) this.happened.push({ is: "reached", reader, position: seq });
  }

  private rows(feed: Feed, last: RowsFrame): void {
    const frames = feed.parts;
    feed.parts = [];
    const { log, of } = feed.place as ListPlace;
    const place = { log, of, position: last.position, ...(last.bound !== undefined && { bound: last.bound as Bound }) };
    feed.place = place;
    const change = {
      reset: frames.some(({ reset }) => reset),
      put: frames.flatMap(({ put }) => put as unknown as ListRow[]),
      drop: frames.flatMap(({ drop }) => drop as Bound[]),
      order: feed.order,
      place,
    };
    for (const reader of feed.readers.keys()) this.happened.push({ is: "list", reader, change });
  }

  private remove(feed: Feed): void {
    if (this.feeds.get(feed.key) === feed) this.feeds.delete(feed.key);
    this.views.delete(feed.view);
    if (feed.view) this.urgent.push({ action: "unfollow", view: feed.view });
  }

  private end(feed: Feed, error: HuahuoError): void {
    this.feeds.delete(feed.key);
    this.views.delete(feed.view);
    for (const reader of feed.readers.keys()) {
      this.of.delete(reader);
      this.happened.push({ is: "ended", reader, error });
    }
  }
}

const denied = ({ list }: Feed) => new HuahuoError("stream_denied", `the list ${list}: it may not be read`);
