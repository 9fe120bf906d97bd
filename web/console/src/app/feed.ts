/**
 * The console's way to the server: the client, the streams it follows, and what is known of the connection.
 * Framework-free; `listener` is told that something changed and reads it when it likes.
 */

import { Client, type HuahuoError, type Item, type Language, type Outcome, type State, type Status, type User } from "huahuo-client";
import type { Fact } from "../model/mailboxes";
import { BASE } from "./base";
import { Meter } from "./meter";

export const SYSTEM = "system";
export const WHOLE_LOG = "log";

/** Where one stream stands. */
export interface StreamFacts {
  cursor: number;
  head: number;
  outcome: Outcome | "";
  live: boolean;
  /** Events that were processed and not acked yet. */
  unacked: number;
}

export interface Sink {
  snapshot?(state: Record<string, unknown>, seq: number): void;
  events(facts: readonly Fact[], first: number): void;
  denied?(error: HuahuoError): void;
}

export interface FeedListener {
  /** Something that `Feed` shows has changed. */
  changed(): void;
  /** The server took the client back in; `after` is where the stream goes on. */
  resumed(stream: string, outcome: Outcome, after: number): void;
}

export class Feed {
  readonly meter: Meter;
  readonly streams = new Map<string, StreamFacts>();
  user: User | null = null;
  /** When the next attempt to connect is made, in `performance.now()` milliseconds. */
  retryAt = 0;
  reconnects = 0;
  private readonly client: Client;
  private readonly ends: (() => void)[];
  private wasOnline = false;
  /** How many follow each stream: two pages may show one. */
  private readonly followers = new Map<string, number>();

  constructor(token: string, spoken: Language, private readonly listener: FeedListener) {
    this.meter = new Meter(() => listener.changed());
    globalThis.WebSocket = this.meter.socket(); // the client takes the page's own
    this.client = new Client({ url: BASE, token, language: spoken, decoder: () => import("huahuo-client/zstd") });
    this.ends = [this.client.state.subscribe(this.stateChanged), this.client.onStatus(this.heard)];
  }

  get state(): State {
    return this.client.state.value;
  }

  /** Whether the connection is this tab's; else another tab holds it for all. */
  get owner(): boolean {
    return this.client.owner.value;
  }

  /**
   * Follow a stream: from its state of now, or behind what this browser has processed before.
   * Gives a function that ends it.
   */
  follow(stream: string, from: "snapshot" | "stored" | "head", sink: Sink): () => void {
    let followed = true;
    const leave = (): void => {
      if (followed) this.leave(stream);
      followed = false;
    };
    this.followers.set(stream, (this.followers.get(stream) ?? 0) + 1);
    const subscription = this.client.subscribe(stream, {
      ...(from === "stored" ? { tabs: "each" as const } : { after: from }),
      onItem: (item) => this.take(item, sink),
      onError: (error) => {
        leave();
        sink.denied?.(error);
      },
    });
    void subscription.ready.then(() => {
      if (subscription.handled) this.at(stream, subscription.handled.seq);
    }, () => undefined);
    return () => {
      subscription.close();
      leave();
    };
  }

  /** Hear texts for people in this language. */
  speak(language: Language): void {
    this.client.speak(language);
  }

  send: Client["send"] = (...args: Parameters<Client["send"]>) => this.client.send(...args);

  /** Do not wait for the next attempt. */
  connectNow(): void {
    this.client.wake();
  }

  /** What this tab has processed and its connection has not acked. */
  unacked(): number {
    let sum = 0;
    for (const [stream, facts] of this.streams) {
      const acked = this.meter.acked.get(stream);
      facts.unacked = acked === undefined ? 0 : Math.max(0, facts.cursor - acked);
      sum += facts.unacked;
    }
    return sum;
  }

  close(): void {
    this.ends.forEach((end) => end());
    this.client.close();
  }

  /** One follower less; the last one takes with it what is known of the stream. */
  private leave(stream: string): void {
    const others = (this.followers.get(stream) ?? 1) - 1;
    if (others) this.followers.set(stream, others);
    else {
      this.followers.delete(stream);
      this.streams.delete(stream);
    }
    this.listener.changed();
  }

  private take(item: Item, sink: Sink): void {
    this.at(item.stream, item.last);
    if (item.kind === "snapshot") sink.snapshot?.(item.state, item.last);
    else if (item.kind === "batch") sink.events(item.events as readonly unknown[] as readonly Fact[], item.first);
    this.listener.changed();
  }

  private at(stream: string, seq: number): void {
    const facts = this.facts(stream);
    facts.cursor = seq;
    facts.head = Math.max(facts.head, seq);
  }

  private facts(stream: string): StreamFacts {
    let facts = this.streams.get(stream);
    if (!facts) this.streams.set(stream, (facts = { cursor: 0, head: 0, outcome: "", live: false, unacked: 0 }));
    return facts;
  }

  private readonly stateChanged = (state: State): void => {
    if (state.name === "online") {
      this.user = state.user;
      if (this.wasOnline) this.reconnects += 1;
      this.wasOnline = true;
    } else {
      for (const facts of this.streams.values()) facts.live = false;
      if (state.name === "offline") this.retryAt = performance.now() + state.retryMs;
    }
    this.listener.changed();
  };

  private readonly heard = (status: Status): void => {
    switch (status.type) {
      case "outcome": {
        const facts = this.facts(status.stream);
        facts.outcome = status.outcome;
        facts.head = status.head;
        this.listener.resumed(status.stream, status.outcome, status.after);
        break;
      }
      case "live": {
        const facts = this.facts(status.stream);
        facts.live = true;
        facts.head = Math.max(facts.head, status.seq);
        break;
      }
      case "lag": {
        const facts = this.facts(status.stream);
        facts.head = Math.max(facts.head, facts.cursor + status.behind);
        break;
      }
    }
    this.listener.changed();
  };
}
