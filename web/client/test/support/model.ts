/**
 * The protocol's streams in their simplest form: a judge for the client, without socket or clock.
 * Written from docs/protocol.md alone. It throws when a client does what the page forbids.
 */

import { ModelLists, ModelViews } from "./lists.js";

type Message = Record<string, unknown> & { action: string };
type Frame = Record<string, unknown>;

export class ModelLog {
  id = "log-1";
  streams = new Map<string, { events: Frame[]; first: number }>();
  /** The states of streams whose snapshot is not the numbers of their events. */
  states = new Map<string, Frame>();
  executed = new Map<string, Frame>();
  /** Where its compressed messages' dictionary is. */
  dictionary: Frame | undefined;
  count = 0;
  readonly lists = new ModelLists();

  stream(name: string) {
    let found = this.streams.get(name);
    if (!found) this.streams.set(name, (found = { events: [], first: 1 }));
    return found;
  }

  head(name: string): number {
    return this.stream(name).events.length;
  }

  append(name: string, fields: Frame = {}): number {
    this.stream(name).events.push({ type: "tick", n: ++this.count, timestamp: "t", ...fields });
    return this.head(name);
  }

  /** The numbers of all events of a stream, oldest first. */
  numbers(name: string): number[] {
    return this.stream(name).events.map(({ n }) => n as number);
  }

  prune(name: string, first: number): void {
    this.stream(name).first = first;
  }

  replace(): void {
    this.id = `log-${Number(this.id.slice(4)) + 1}`;
    this.streams.clear();
  }
}

export class ModelConnection {
  readonly places = new Map<string, { sent: number; acked: number; peak: number; live: boolean }>();
  readonly said: Message[] = [];
  readonly commands: Message[] = [];
  authenticated = false;
  window = 0;
  /** Commands wait for `answer` instead of being executed at once. */
  hold = false;
  denied = new Set<string>();
  readonly views: ModelViews;

  constructor(readonly log: ModelLog, private readonly user = 42, private readonly runMax = 4) {
    this.views = new ModelViews(log.lists, () => log.id);
  }

  /** A message of the client; the frames that leave at once. */
  take(text: string): Frame[] {
    const message = JSON.parse(text) as Message;
    this.said.push(message);
    switch (message.action) {
      case "authenticate":
        return this.authenticate(message);
      case "subscribe": {
        const { stream, id } = message as unknown as { stream: string; id: string };
        const [place, frames] = this.place(stream, message["after"] ?? "head", message["log"]);
        return [{ type: "subscribed", id, stream, log: this.log.id, ...place }, ...frames];
      }
      case "unsubscribe":
        this.places.delete(message["stream"] as string);
        return [{ type: "unsubscribed", stream: message["stream"] }];
      case "follow":
        return this.views.follow(message);
      case "present":
        return this.views.present(message);
      case "unfollow":
        return this.views.unfollow(message);
      case "ack":
        if (message["views"]) this.views.ack(message["views"] as Record<string, number>);
        for (const [stream, seq] of Object.entries((message["cursors"] ?? {}) as Record<string, number>)) {
          const place = this.places.get(stream);
          if (!place || seq > place.peak) throw new Error(`bad_ack: ${stream} ${seq}`);
          place.acked = Math.max(place.acked, Math.min(seq, place.sent));
        }
        return [];
      case "heartbeat":
        return [{ type: "heartbeat_response", timestamp: "t" }];
      case "heartbeat_response":
        return [];
      default:
        this.commands.push(message);
        return this.hold ? [] : [this.execute(message)];
    }
  }

  /** The next frame of any stream; null where all is sent or the window is used up. */
  step(): Frame | null {
    let outstanding = 0;
    for (const { sent, acked } of this.places.values()) outstanding += sent - acked;
    for (const [stream, place] of this.places) {
      const { events } = this.log.stream(stream);
      const count = Math.min(this.runMax, events.length - place.sent, this.window - outstanding);
      if (count > 0) {
        const run = events.slice(place.sent, place.sent + count).map((event) => ({ ...event }));
        const frame = { type: "events", stream, seq: place.sent + 1, events: run };
        place.sent += count;
        place.peak = Math.max(place.peak, place.sent);
        return frame;
      }
      if (place.sent === events.length && !place.live) {
        place.live = true;
        return { type: "live", stream, seq: place.sent };
      }
    }
    return this.views.step();
  }

  execute(message: Message): Frame {
    const id = message["id"] as string;
    const known = this.log.executed.get(id);
    if (known) return { ...known, duplicate: true };
    const seq = this.log.append("user/42", { command: id });
    const reply = { type: "success", id, at: { stream: "user/42", seq } };
    this.log.executed.set(id, reply);
    return reply;
  }

  private authenticate(message: Message): Frame[] {
    const result = (streams: Frame) => ({
      type: "authentication_result", success: true, message: "ok", session: "s-1", log: this.log.id,
      user: { user_id: this.user, username: "alice", is_admin: false, groups: [] }, heartbeat_s: 30,
      window: this.window, streams, dictionary: this.log.dictionary,
    });
    if (this.authenticated) {
      const now = [...this.places].map(([name, { sent }]) => [name, { outcome: "resumed", after: sent }]);
      return [result(Object.fromEntries(now) as Frame)];
    }
    this.authenticated = true;
    this.window = message["window"] as number;
    const resume = message["resume"] as { log: string | null; cursors: Record<string, number> };
    const streams: Frame = {};
    const frames: Frame[] = [];
    for (const name of new Set(["user/42", "system", ...Object.keys(resume.cursors)])) {
      const [place, more] = this.place(name, resume.cursors[name] ?? "head", resume.log);
      streams[name] = place;
      frames.push(...more);
    }
    return [result(streams), ...frames];
  }

  private place(name: string, after: unknown, log: unknown): [Frame, Frame[]] {
    if (this.denied.has(name)) return [{ outcome: "denied" }, []];
    const { events, first } = this.log.stream(name);
    const head = events.length;
    let [outcome, at] = ["resumed", head];
    if (after === "head") outcome = "fresh";
    else if (after === "snapshot") outcome = "snapshot";
    else if (after === "start") [outcome, at] = first === 1 ? ["resumed", 0] : ["gap", head];
    else if (log !== this.log.id || (after as number) > head) outcome = "reset";
    else if ((after as number) < first - 1) outcome = "gap";
    else at = after as number;
    const peak = Math.max(at, this.places.get(name)?.peak ?? 0);
    this.places.set(name, { sent: at, acked: at, peak, live: false });
    const frame = { type: "snapshot", stream: name, seq: at, state: this.log.states.get(name) ?? { numbers: this.log.numbers(name) } };
    return [{ outcome, after: at, first, head }, ["gap", "reset", "snapshot"].includes(outcome) ? [frame] : []];
  }
}
