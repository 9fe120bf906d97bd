/**
 * The readers of a connection's streams: what arrives for them, and where they are. Pure. `Session` hands out
 * what happened (`happened`) and what must be sent (`urgent`).
 */

import { HuahuoError } from "../model/errors.js";
import { Acks } from "./acks.js";
import type { After, Check, Cursor, Item, Outcome, State, Status } from "../model/model.js";
import type { Happening } from "./happenings.js";
import { Pipe, Reader } from "./streams.js";
import type { Moving, Place } from "../wire/kinds.js";

/** A reader that works longer on one item is detached, so that others continue. It attaches again later. */
const ASIDE_AFTER_MS = 20_000;

export class Readers {
  phase: "away" | "authenticating" | "online" | "stopped" = "away";
  protected readonly pipes = new Map<string, Pipe>();
  protected readonly readers = new Map<string, Reader>();
  protected urgent: object[] = [];
  protected happened: Happening[] = [];
  /** The streams that the server follows by itself. */
  protected automatic: ReadonlySet<string> = new Set();
  protected readonly acks = new Acks(
    this.pipes,
    () => this.phase === "online",
    (cursors) => this.urgent.push({ action: "ack", cursors }),
  );

  constructor(public window = 512) {}

  /** The pipe of a stream, made if there is none. */
  protected pipe(stream: string): Pipe {
    let pipe = this.pipes.get(stream);
    if (!pipe) this.pipes.set(stream, (pipe = new Pipe(stream)));
    return pipe;
  }

  /** Add a reader of a stream, after `cursor` or else from `start`. A known id is attached anew. */
  attach(id: string, stream: string, start: After, cursor: Cursor | null): void {
    this.detach(id);
    const pipe = this.pipe(stream);
    const reader = new Reader(id, pipe, start, cursor);
    pipe.readers.set(id, reader);
    this.readers.set(id, reader);
  }

  /**
   * Remove a reader. Streams that the server follows by itself (`user/<id>`, `system`) stay subscribed
   * without readers, unless the reader will be back (`aside`): its unprocessed events must not be acked.
   */
  detach(id: string, aside = false): void {
    const reader = this.readers.get(id);
    if (!reader) return;
    this.acks.now(); // what was processed last is forgotten with the stream
    const { pipe } = reader;
    this.readers.delete(id);
    pipe.readers.delete(id);
    if (pipe.readers.size) return;
    if (this.phase === "online" && this.automatic.has(pipe.name) && !aside) return;
    this.pipes.delete(pipe.name);
    if (this.phase === "online") this.urgent.push({ action: "unsubscribe", stream: pipe.name });
  }

  /** Remove every reader whose id begins with `prefix`. */
  detachAll(prefix: string): void {
    for (const id of [...this.readers.keys()]) if (id.startsWith(prefix)) this.detach(id);
  }

  /** The next item for a reader that is not busy, null if there is none now. */
  take(id: string, now: number): Item | null {
    const reader = this.readers.get(id);
    if (!reader || reader.busySince < Infinity) return null;
    const item = reader.take();
    if (item) reader.busySince = now;
    return item;
  }

  /** The last check of the items that the reader took. */
  checkOf(id: string): Check | undefined {
    return this.readers.get(id)?.cursor?.check;
  }

  /** The era of the reader's current items. */
  eraOf(id: string): number {
    return this.readers.get(id)?.era ?? 0;
  }

  /** The reader has processed everything up to `seq`. */
  processed(id: string, era: number, seq: number): void {
    const reader = this.readers.get(id);
    if (!reader) {
      this.happened.push({ is: "lost", reader: id });
      return;
    }
    reader.busySince = Infinity;
    if (reader.era === era && seq > reader.processed) reader.processed = seq;
    if (reader.buffer.length > 0) this.happened.push({ is: "readable", reader: id });
  }

  /** Detach readers that have worked on one item for too long. */
  protected detachSlow(now: number): void {
    for (const reader of this.readers.values()) {
      if (reader.busySince + ASIDE_AFTER_MS <= now) {
        this.detach(reader.id, true);
        this.happened.push({ is: "lost", reader: reader.id });
      }
    }
  }

  /** When the first reader will have worked for too long on its item. */
  protected slowAt(): number {
    let at = Infinity;
    for (const { busySince } of this.readers.values()) at = Math.min(at, busySince + ASIDE_AFTER_MS);
    return at;
  }

  protected moved(message: Moving, size: number): void {
    const pipe = this.pipes.get(message.stream);
    if (!pipe) return;
    if (!pipe.move(message, size)) {
      pipe.active = false;
      this.problem("missing_events", `${pipe.name}: asking again`);
    }
    this.arrived(pipe);
  }

  protected arrived(pipe: Pipe): void {
    for (const { id, buffer, busySince } of pipe.readers.values()) {
      const waiting = buffer.reduce((sum, item) => sum + (item.kind === "batch" ? item.events.length : 0), 0);
      if (waiting > 2 * this.window) {
        throw new HuahuoError("protocol_violation", "the server ignores the window");
      }
      if (buffer.length > 0 && busySince === Infinity) this.happened.push({ is: "readable", reader: id });
    }
  }

  protected placed(pipe: Pipe, log: string, place: Place): void {
    const { name } = pipe;
    const { outcome, after, head } = place;
    if (outcome === "denied") {
      this.end(name, new HuahuoError("stream_denied", `${name}: may not be read, or does not exist`));
      return;
    }
    if (outcome === "pending") return; // an answer follows; after a sign-in we subscribe, and wait for that one's
    pipe.place(log, place);
    this.status({ type: "outcome", stream: name, outcome, after, head });
    if (outcome !== "snapshot") this.announce(pipe, outcome);
    this.arrived(pipe);
  }

  /** Report to each reader its place, once. Without an outcome: to readers that joined a followed stream. */
  protected announce(pipe: Pipe, outcome?: Outcome): void {
    for (const reader of pipe.readers.values()) {
      const { id, cursor, resumes } = reader;
      if (reader.told || !cursor) continue;
      reader.told = true;
      this.happened.push({ is: "placed", reader: id, cursor, outcome: outcome ?? (resumes ? "resumed" : "fresh") });
    }
  }

  protected end(name: string, error: HuahuoError): void {
    const pipe = this.pipes.get(name);
    if (!pipe) return;
    this.pipes.delete(name);
    for (const reader of pipe.readers.keys()) {
      this.readers.delete(reader);
      this.happened.push({ is: "ended", reader, error });
    }
  }

  protected tell(state: State): void {
    this.happened.push({ is: "state", state });
  }

  protected status(status: Status): void {
    this.happened.push({ is: "status", status });
  }

  protected problem(code: string, message: string): void {
    this.status({ type: "problem", code, message });
  }
}
