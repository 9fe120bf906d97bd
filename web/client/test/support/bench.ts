/** A session on a bench: what it says as objects, what it is told by keywords, a clock by hand. */

import type { After, Cursor, Item } from "../../src/model/model.js";
import { Retry } from "../../src/session/retry.js";
import type { Happening } from "../../src/session/happenings.js";
import { Session } from "../../src/session/session.js";

export const STREAM = "user/42";
export const LOG = "log-1";

export type Said = Record<string, unknown> & { action: string };

export class Bench {
  now = 100_000;
  chance = 0.5;
  readonly session: Session;
  private happened: Happening[] = [];

  constructor(options: { window?: number; messagesPerS?: number; renewable?: boolean } = {}) {
    this.session = new Session({
      client: "dev-1", prefix: "p", window: options.window ?? 8, messagesPerS: options.messagesPerS ?? 0,
      retry: new Retry(() => this.chance, 500, 20_000, options.renewable ?? true),
    });
  }

  /** What the session sent since the last time. */
  said(action?: string): Said[] {
    const all = this.session.outgoing(this.now).map((text) => JSON.parse(text) as Said);
    return action ? all.filter((one) => one.action === action) : all;
  }

  /** What it told since the last time, of one kind. */
  told<K extends Happening["is"]>(is: K): Extract<Happening, { is: K }>[] {
    this.happened.push(...this.session.drain());
    const found = this.happened.filter((one) => one.is === is);
    this.happened = this.happened.filter((one) => one.is !== is);
    return found as Extract<Happening, { is: K }>[];
  }

  after(ms: number): this {
    this.now += ms;
    this.session.tick(this.now);
    return this;
  }

  tell(type: string, fields: object = {}): this {
    this.session.received(JSON.stringify({ type, ...fields }), this.now);
    return this;
  }

  connect(): Said {
    this.session.connected("jwt", this.now);
    const [message] = this.said();
    return message as Said;
  }

  accept(streams: Record<string, object> = {}, more: object = {}): this {
    return this.tell("authentication_result", {
      success: true, session: "s-1", log: LOG, user: { user_id: 42 }, heartbeat_s: 30,
      window: this.session.window, streams, ...more,
    });
  }

  online(): this {
    this.connect();
    return this.accept();
  }

  attach(id: string, after: After = "head", cursor: Cursor | null = null, stream = STREAM): this {
    this.session.attach(id, stream, after, cursor);
    return this;
  }

  /** Answer the `subscribe` that the session says now. */
  place(outcome: string, after: number, more: object = {}): Said {
    const [asked] = this.said("subscribe");
    if (!asked) throw new Error("nothing is asked");
    this.tell("subscribed", {
      id: asked["id"], stream: asked["stream"], log: LOG, outcome, after, first: 1, head: 99, ...more,
    });
    return asked;
  }

  events(first: number, last: number, stream = STREAM): this {
    const events = Array.from({ length: last - first + 1 }, (_, index) => ({ type: "tick", n: first + index }));
    return this.tell("events", { stream, seq: first, events });
  }

  /** Everything that waits for a reader, each item processed at once. */
  process(id: string): Item[] {
    const items: Item[] = [];
    for (let item = this.session.take(id, this.now); item; item = this.session.take(id, this.now)) {
      items.push(item);
      this.session.processed(id, this.session.eraOf(id), item.last);
    }
    return items;
  }
}

/** The seqs of all events of these items. */
export const seqs = (items: readonly Item[]): number[] =>
  items.flatMap((item) => (item.kind === "batch" ? item.events.map(({ seq }) => seq) : []));
