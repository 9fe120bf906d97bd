/**
 * Where one connection stands in a stream (`Pipe`), and where each of its readers does. Pure.
 *
 * The server knows one position per stream and connection; readers (two parts of a page, or two tabs)
 * may stand elsewhere. The rule that brings them together: as long as a reader has no place yet, or
 * lacks events that lie behind the pipe's position, the pipe asks again (`next`) - for a snapshot if
 * that is what the reader wants, else from the reader's place. The others drop what they know.
 *
 * Positions of a reader, each at most the next: `processed` ≤ `cursor` (handed over) ≤ `received`
 * (in its buffer). A new connection goes on from `cursor` with an empty buffer, so that no buffer ever
 * holds more than a window. An `era` is a stretch of numbers that fit together: a snapshot begins a
 * new one, and what is said about an older one is of no interest.
 */

import { HuahuoError } from "../model/errors.js";
import { type After, type Check, type Cursor, cursorAt, type Item, type Outcome, type StreamEvent } from "../model/model.js";
import { Assembly, isWhole } from "../wire/parts.js";
import type { EventsFrame, LiveFrame, Place, SkippedFrame, SnapshotFrame } from "../wire/wire.js";

export type Ask = { readonly after: After; readonly log?: string; readonly check?: Check };

export class Reader {
  /** What was handed over last; null: nothing, not even a beginning. */
  cursor: Cursor | null = null;
  /** It stands somewhere: `log` and `received` hold. */
  placed = false;
  /** The application knows where it stands. */
  told = false;
  /** It came with a place. */
  readonly resumes: boolean;
  log = "";
  received = 0;
  processed = 0;
  era = 0;
  buffer: Item[] = [];
  /** Since when the application works on an item; null: it does not. */
  busySince: number | null = null;
  /** Checks of places where the cursor is not yet: each belongs to the item that ends there. */
  private readonly checks = new WeakMap<Item, Check>();

  constructor(readonly id: string, readonly pipe: Pipe, readonly start: After, cursor: Cursor | null) {
    this.resumes = cursor !== null;
    if (cursor) this.place(cursor.log, cursor.seq, cursor.check);
  }

  place(log: string, seq: number, check?: Check): void {
    this.cursor = cursorAt(log, seq, check);
    this.placed = true;
    this.log = log;
    this.received = this.processed = seq;
  }

  /** Forget what was received but not handed over: it is asked for again. */
  rewind(): void {
    this.buffer = [];
    this.placed = this.cursor !== null;
    if (this.cursor) {
      this.log = this.cursor.log;
      this.received = this.cursor.seq;
    }
  }

  /** Hand the next item over. */
  take(): Item | null {
    const item = this.buffer.shift();
    if (!item) return null;
    const known = item.kind === "snapshot" ? undefined : this.cursor?.check;
    this.cursor = cursorAt(item.log, item.last, this.checks.get(item) ?? known);
    return item;
  }

  /** The check of the place up to which everything was received; whether the cursor stands there. */
  checked(check: Check): boolean {
    const last = this.buffer.at(-1);
    if (last) this.checks.set(last, check);
    else if (this.cursor) this.cursor = { ...this.cursor, check };
    return !last && this.cursor !== null;
  }
}

export class Pipe {
  readonly readers = new Map<string, Reader>();
  log = "";
  received = 0;
  /** The server has said where this connection stands. */
  active = false;
  /** The outcome whose snapshot must come first. */
  expects: "gap" | "reset" | "snapshot" | "" = "";
  /** The id of the `subscribe` that waits for its answer, and what it asked. */
  asked = "";
  ask: Ask = { after: "head" };
  /** When to ask, if `next` has something to ask. */
  retryAt = 0;
  /** The last seq that was acked, and up to where acks are owed for nothing. */
  acked = -1;
  floor = 0;
  /** Of a state that comes in parts. */
  private assembly = new Assembly();
  private first = 1;
  private head = 0;

  constructor(readonly name: string) {}

  /** What the server knew of this stream is gone. */
  connectionLost(): void {
    this.active = false;
    this.assembly = new Assembly();
    this.expects = this.asked = "";
    this.retryAt = 0;
    this.acked = -1;
    for (const reader of this.readers.values()) reader.rewind();
  }

  /** The server cannot serve this connection with it for now: ask again then. */
  putOff(until: number): void {
    this.active = false;
    this.expects = this.asked = "";
    this.retryAt = until;
  }

  /** The place to go on from in `log` for the reader that is furthest behind; null: there is none. */
  resumeIn(log: string): number | null {
    let seq = Infinity;
    for (const reader of this.readers.values()) {
      if (reader.placed && reader.log === log) seq = Math.min(seq, reader.received);
    }
    return seq === Infinity ? null : seq;
  }

  /** The check to send with that place; undefined: there is none. */
  checkIn(log: string): Check | undefined {
    let behind: Reader | null = null;
    for (const reader of this.readers.values()) {
      const fits = reader.placed && reader.log === log && reader.cursor?.check;
      if (fits && (!behind || reader.received < behind.received)) behind = reader;
    }
    return behind?.cursor?.check;
  }

  /** The server has said where this connection stands, and nothing else is awaited. */
  get settled(): boolean {
    return this.active && !this.asked && !this.expects;
  }

  /** Readers that want the head begin where others stand already: asking would move those. */
  settle(): void {
    if (!this.settled || this.resumeIn(this.log) === null) return;
    for (const reader of this.readers.values()) {
      if (!reader.placed && reader.start === "head") reader.place(this.log, this.received);
    }
  }

  /** What must be asked next, null if every reader is served. */
  next(log: string): Ask | null {
    if (this.asked || this.expects) return null;
    const others: Ask[] = [];
    for (const reader of this.readers.values()) {
      if (!reader.placed) {
        return typeof reader.start === "number" ? { after: reader.start, log } : { after: reader.start };
      }
      if (!this.active || reader.log !== this.log || reader.received < this.received) {
        others.push({ after: reader.received, log: reader.log });
      }
    }
    if (!this.active && this.log && this.readers.size === 0) return { after: this.received, log: this.log };
    // one log at a time, and the furthest behind of each
    const log0 = others[0]?.log;
    const seqs = others.filter((ask) => ask.log === log0).map((ask) => ask.after as number);
    if (log0 === undefined) return null;
    const check = this.checkIn(log0);
    return { after: Math.min(...seqs), log: log0, ...(check && { check }) };
  }

  /** The server's word where this connection stands, as the answer to `ask`. */
  place(log: string, place: Place): void {
    this.active = true;
    this.assembly = new Assembly();
    this.asked = "";
    this.log = log;
    this.first = place.first;
    this.head = place.head;
    const outcome: Outcome = place.outcome;
    if (outcome === "gap" || outcome === "reset" || outcome === "snapshot") {
      this.expects = outcome;
      return;
    }
    const { after } = this.ask;
    if (outcome === "resumed" && typeof after === "number" && after !== place.after) {
      throw new HuahuoError("protocol_violation", `${this.name} was put somewhere else than asked for`);
    }
    this.stand(place.after);
    for (const reader of this.readers.values()) {
      if (!reader.placed && reader.start === after) reader.place(log, place.after);
    }
  }

  /** Take a run in; false if events are missing before it. */
  events(frame: EventsFrame): boolean {
    if (!this.active || this.expects) return true;
    if (frame.seq > this.received + 1) return false;
    const last = frame.seq + frame.events.length - 1;
    if (last <= this.received) return true;
    frame.events.forEach((event, index) => Object.assign(event, { stream: this.name, seq: frame.seq + index }));
    const events = frame.events as unknown as StreamEvent[];
    this.pass(last, (first) => ({
      kind: "batch", stream: this.name, log: this.log, first, last, events: events.slice(first - frame.seq),
    }));
    return true;
  }

  /** Account for a compacted range; false if events are missing before it. */
  skipped(frame: SkippedFrame): boolean {
    if (!this.active || this.expects || frame.to <= this.received) return true;
    if (frame.seq > this.received + 1) return false;
    this.pass(frame.to, (first) => ({
      kind: "skipped", stream: this.name, log: this.log, first, last: frame.to, reason: frame.reason,
    }));
    return true;
  }

  /**
   * Take a state in that replaces everything, for the readers that need it; `size` bounds parts of one.
   *
   * @throws HuahuoError `protocol_violation`: a part does not fit
   */
  snapshot(frame: SnapshotFrame, size: number): void {
    if (!this.active || (!this.expects && frame.seq <= this.received)) return;
    let { state } = frame;
    if (!isWhole(frame)) {
      this.assembly.add(state, frame.part ?? 1, size);
      if (frame.more) return;
      state = this.assembly.whole;
      this.assembly = new Assembly();
    }
    const outcome = this.expects || "gap";
    const { after } = this.ask;
    // a cursor that this log should know: the events before it were replaced, whoever read them
    const replaced = outcome === "reset" && this.ask.log === this.log && typeof after === "number" && after <= this.head;
    for (const reader of this.readers.values()) {
      const { placed, received } = reader;
      const needed = !placed
        ? this.expects !== "" && reader.start === after
        : outcome === "snapshot" ? false
        : outcome === "reset" ? reader.log !== this.log || received > this.head || replaced
        : reader.log === this.log && (this.expects ? received < this.first - 1 : received < frame.seq);
      if (!needed) continue;
      reader.era += 1;
      reader.placed = true; // its cursor stays until the state was handed over
      // but must not be gone on from any more
      if (replaced && reader.cursor) reader.cursor = { log: "", seq: reader.cursor.seq };
      reader.log = this.log;
      reader.received = frame.seq;
      reader.processed = -1;
      reader.buffer.push({
        kind: "snapshot", stream: this.name, log: this.log, last: frame.seq, state, outcome,
      });
      if (frame.check) reader.checked([frame.seq, frame.check]);
    }
    this.expects = "";
    this.stand(frame.seq);
  }

  /** Caught up; the readers whose cursor is there and has the check now. */
  live({ seq, check }: LiveFrame): Reader[] {
    if (!check || !this.active || this.expects) return [];
    return [...this.readers.values()].filter(
      (reader) => reader.placed && reader.log === this.log && reader.received === seq && reader.checked([seq, check]),
    );
  }

  /** Up to where everything is processed and this connection may be told so; null: nothing to say. */
  ackable(): number | null {
    if (!this.active || this.expects) return null;
    let seq = this.received;
    for (const reader of this.readers.values()) {
      if (reader.placed && reader.log === this.log) seq = Math.min(seq, reader.processed);
    }
    return seq > Math.max(this.acked, 0) ? seq : null;
  }

  private stand(seq: number): void {
    this.received = this.floor = seq;
    this.acked = -1;
  }

  private pass(to: number, make: (first: number) => Item): void {
    const before = this.received;
    this.received = to;
    for (const reader of this.readers.values()) {
      const { received } = reader;
      if (!reader.placed || reader.log !== this.log || received < before || received >= to) continue;
      reader.buffer.push(make(received + 1));
      reader.received = to;
    }
  }
}
