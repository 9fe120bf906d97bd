/**
 * The position of a connection in a stream (`Pipe`), and those of its readers. Pure.
 *
 * The server knows one position per stream and connection. Readers (two parts of a page, or two tabs) may
 * have others. The rule that unites them: while a reader has no place yet, or lacks events before the pipe's
 * position, the pipe subscribes again (`next`), for a snapshot if the reader wants one, else from the
 * reader's place. Readers that already have these events drop them.
 *
 * Positions of a reader, in order: `processed` ≤ `cursor` (taken by the reader) ≤ `received` (in its
 * buffer). A new connection resumes at `cursor` with an empty buffer, so a buffer never holds more than a
 * window. Within an `era`, seqs are comparable. A snapshot begins a new era, and reports about older ones
 * are ignored.
 */

import { HuahuoError } from "../model/errors.js";
import { type After, type Check, type Cursor, cursorAt, type Item, type Outcome, type StreamEvent } from "../model/model.js";
import { Assembly, isWhole } from "../wire/parts.js";
import type { EventsFrame, LiveFrame, Moving, Place, SkippedFrame, SnapshotFrame } from "../wire/kinds.js";

export type Ask = { readonly after: After; readonly log?: string; readonly check?: Check };

export class Reader {
  /** The last place that was passed to the reader. Null: there is none, not even a start. */
  cursor: Cursor | null = null;
  /** The reader has a place, so `log` and `received` are valid. */
  placed = false;
  /** The application was told the place. */
  told = false;
  /** It was attached with a cursor. */
  readonly resumes: boolean;
  log = "";
  received = 0;
  processed = 0;
  era = 0;
  buffer: Item[] = [];
  /** Since when the application works on an item. Infinity: it does not. */
  busySince = Infinity;
  /** Checks of places that the cursor has not reached, by the item that ends there. */
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

  /** Drop what was received but not taken. It will be requested again. */
  rewind(): void {
    this.buffer = [];
    this.placed = this.cursor !== null;
    if (this.cursor) {
      this.log = this.cursor.log;
      this.received = this.cursor.seq;
    }
  }

  /** Take the next item. */
  take(): Item | null {
    const item = this.buffer.shift();
    if (!item) return null;
    const known = item.kind === "snapshot" ? undefined : this.cursor?.check;
    this.cursor = cursorAt(item.log, item.last, this.checks.get(item) ?? known);
    return item;
  }

  /** Note the check of the place `received`. True if the cursor is there already. */
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
  /** The server has placed this connection in the stream. */
  active = false;
  /** The outcome that promised a snapshot, which must come first. */
  expects: "gap" | "reset" | "snapshot" | "" = "";
  /** The id of the unanswered `subscribe`, and what it asked for. */
  asked = "";
  ask: Ask = { after: "head" };
  /** The earliest time for the next request. */
  retryAt = 0;
  /** The last acked seq, and the seq up to which no acks are due. */
  acked = -1;
  floor = 0;
  /** The parts of a state so far. */
  private assembly = new Assembly();
  private first = 1;
  private head = 0;

  constructor(readonly name: string) {}

  /** The connection ended, and with it the server's position. */
  connectionLost(): void {
    this.active = false;
    this.assembly = new Assembly();
    this.expects = this.asked = "";
    this.retryAt = 0;
    this.acked = -1;
    for (const reader of this.readers.values()) reader.rewind();
  }

  /** The server cannot deliver this stream for now: ask again at `until`. */
  putOff(until: number): void {
    this.active = false;
    this.expects = this.asked = "";
    this.retryAt = until;
  }

  /** The place to resume from in `log`, that of the reader furthest behind. Null: there is none. */
  resumeIn(log: string): number | null {
    let seq = Infinity;
    for (const reader of this.readers.values()) {
      if (reader.placed && reader.log === log) seq = Math.min(seq, reader.received);
    }
    return seq === Infinity ? null : seq;
  }

  /** The check to send with that place. Undefined: there is none. */
  checkIn(log: string): Check | undefined {
    let behind: Reader | null = null;
    for (const reader of this.readers.values()) {
      // A state that the reader has not taken may be of another log than its cursor.
      const fits = reader.placed && reader.log === log && reader.cursor?.log === log && reader.cursor.check;
      if (fits && (!behind || reader.received < behind.received)) behind = reader;
    }
    return behind?.cursor?.check;
  }

  /** The server has placed this connection, and no answer or snapshot is awaited. */
  get settled(): boolean {
    return this.active && !this.asked && !this.expects;
  }

  /** Place readers that want the head at the pipe's position, because a request would move other readers. */
  settle(): void {
    if (!this.settled || this.resumeIn(this.log) === null) return;
    for (const reader of this.readers.values()) {
      if (!reader.placed && reader.start === "head") reader.place(this.log, this.received);
    }
  }

  /** The next request, null if every reader is served. */
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
    // One log at a time, from the reader that is furthest behind.
    const log0 = others[0]?.log;
    const seqs = others.filter((ask) => ask.log === log0).map((ask) => ask.after as number);
    if (log0 === undefined) return null;
    const check = this.checkIn(log0);
    return { after: Math.min(...seqs), log: log0, ...(check && { check }) };
  }

  /** Apply the place of this connection, which the server sent in answer to `ask`. */
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

  /**
   * Apply a frame that moves the position. `size` is that of its message. False if events before it are missing.
   *
   * @throws HuahuoError `protocol_violation`: as `snapshot`
   */
  move(frame: Moving, size: number): boolean {
    switch (frame.type) {
      case "events":
        return this.events(frame);
      case "skipped":
        return this.skipped(frame);
      case "snapshot":
        this.snapshot(frame, size);
        return true;
    }
  }

  /** Add a run. False if events before it are missing. */
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

  /** Skip a compacted range. False if events before it are missing. */
  skipped(frame: SkippedFrame): boolean {
    if (!this.active || this.expects || frame.to <= this.received) return true;
    if (frame.seq > this.received + 1) return false;
    this.pass(frame.to, (first) => ({
      kind: "skipped", stream: this.name, log: this.log, first, last: frame.to, reason: frame.reason,
    }));
    return true;
  }

  /**
   * Add a state that replaces everything, for the readers that need it. `size` is that of this message.
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
    // This log should know the cursor, so the events before it were replaced, for every reader.
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
      reader.placed = true; // its cursor stays until it takes the state
      if (outcome === "reset") {
        reader.buffer = [];
        // That cursor must not be resumed from any more, even if the log grows past it.
        if (reader.cursor?.log === this.log) reader.cursor = { log: "", seq: reader.cursor.seq };
      }
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

  /** Apply the message that says "caught up". Returns the readers whose cursor now has its check. */
  live({ seq, check }: LiveFrame): Reader[] {
    if (!check || !this.active || this.expects) return [];
    return [...this.readers.values()].filter(
      (reader) => reader.placed && reader.log === this.log && reader.received === seq && reader.checked([seq, check]),
    );
  }

  /** The seq to ack: all readers have processed everything up to it. Null: there is none. */
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
