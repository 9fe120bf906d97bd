/**
 * One reader of one stream in this tab: runs the application's handlers, one item after the other, and
 * knows where they stand. It outlives connections and owners of the connection; each time it attaches
 * again under a new reader id, so that late messages for an old one mean nothing.
 */

import type { CursorStore } from "./cursors.js";
import { HuahuoError, misuse } from "../model/errors.js";
import type { EngineMessage, TabMessage } from "../wire/messages.js";
import {
  type After, type Check, type Cursor, cursorAt, type Item, type Outcome, type Skipped, type Snapshot, type StreamEvent,
} from "../model/model.js";
import { report } from "../model/observable.js";

/**
 * Store the new place together with the application's state: call it with a readwrite transaction that
 * includes the store of `IndexedDbCursors`. Both are written, or neither.
 */
export type Commit = (transaction: IDBTransaction) => void;

type Done = void | Promise<void>;

/** Called one after the other, never two at once; one that throws ends the subscription. */
export interface Handlers {
  /** Every event in turn. Give this, `onBatch` or `onItem`. */
  onEvent?(event: StreamEvent): Done;
  /** Every run of events in turn. */
  onBatch?(events: readonly StreamEvent[], commit: Commit): Done;
  /** Everything in turn: runs, snapshots and skips. */
  onItem?(item: Item, commit: Commit): Done;
  /** A state that replaces everything known: it was asked for, or history is gone. */
  onSnapshot?(snapshot: Snapshot, commit: Commit): Done;
  /** Events were compacted away; the next ones follow. */
  onSkipped?(skipped: Skipped): Done;
  /** The stored place moved on, in this tab or in another (with `tabs: "one"`). */
  onApplied?(cursor: Cursor): void;
  /** Nothing comes any more. Without it the error is reported as an uncaught one. */
  onError?(error: HuahuoError): void;
}

export interface SubscribeOptions extends Handlers {
  /**
   * Where to begin: this tab's own place, which nobody stores. Left out: behind what was processed
   * last, as the cursor store knows it, or else at the head.
   */
  readonly after?: After | Cursor;
  /**
   * For a stored place. `each`: every tab gets every event. `one`: the handlers run in one tab at a
   * time, and when it goes another one goes on behind its last commit: for state that tabs share.
   * Left out: `one` with `onBatch`, else `each`.
   */
  readonly tabs?: "each" | "one";
}

/** What a subscription needs from its client. */
export interface Source {
  readonly store: CursorStore;
  readonly locks: LockManager | null;
  /** The key of a stream's stored place; settles when the client knows who it is. */
  key(stream: string): Promise<string>;
  newReader(subscription: Subscription): string;
  send(message: TabMessage): void;
  applied(subscription: Subscription, cursor: Cursor): void;
  problem(code: string, message: string): void;
  closed(subscription: Subscription): void;
}

const MOVED = Symbol("somebody else applied these events");

export class Subscription {
  /** Resolves when the server has said where this subscription stands. */
  readonly ready: Promise<Outcome>;
  /** Resolves at the end with its reason: `not_subscribed` where the application closed it. */
  readonly closed: Promise<HuahuoError>;
  /** Up to here everything was handled; null: nowhere yet. */
  handled: Cursor | null = null;
  private readonly stored: boolean;
  private readonly one: boolean;
  private readonly start: After;
  private cursor: Cursor | null = null;
  private base: Cursor | null = null;
  private key = "";
  private reader = "";
  private turn = 0;
  private active = false;
  private ended = false;
  private work: Promise<void> = Promise.resolve();
  private lock = new AbortController();
  private unlock: () => void = () => undefined;
  private waiters: { seq: number; resolve: () => void; reject: (error: HuahuoError) => void }[] = [];
  private isReady!: (outcome: Outcome) => void;
  private isNotReady!: (error: HuahuoError) => void;
  private isClosed!: (error: HuahuoError) => void;

  constructor(
    readonly stream: string,
    private readonly options: SubscribeOptions,
    private readonly source: Source,
  ) {
    const { after, tabs, onBatch } = options;
    this.stored = after === undefined;
    this.one = this.stored && (tabs ?? (onBatch ? "one" : "each")) === "one";
    this.start = typeof after === "object" ? "head" : (after ?? "head");
    if (typeof after === "object") this.cursor = this.handled = after;
    this.ready = new Promise((resolve, reject) => {
      this.isReady = resolve;
      this.isNotReady = reject;
    });
    this.closed = new Promise((resolve) => (this.isClosed = resolve));
    this.ready.catch(() => undefined); // whoever awaits it gets it nevertheless
  }

  /** Begin, or go on after `pause`. */
  resume(): void {
    const { signal } = (this.lock = new AbortController());
    this.begin(signal).catch((error: unknown) => {
      if (!signal.aborted) this.fail(error);
    });
  }

  private async begin(signal: AbortSignal): Promise<void> {
    this.key = await this.source.key(this.stream);
    const { locks, store } = this.source;
    if (this.one && locks) {
      await new Promise<void>((got, failed) => {
        const held = () => {
          got();
          if (signal.aborted) return undefined;
          return new Promise<void>((unlock) => (this.unlock = unlock));
        };
        locks.request(`huahuo:${this.key}`, { signal }, held).catch(failed);
      });
    }
    if (signal.aborted) return;
    if (this.stored) await this.load(store);
    if (signal.aborted) return;
    this.active = true;
    this.attach();
  }

  private async load(store: CursorStore): Promise<void> {
    // what this tab handled itself may not be stored yet
    const kept = await store.load(this.key);
    if (this.one || !this.handled || (kept?.log === this.handled.log && kept.seq > this.handled.seq)) {
      this.handled = this.cursor = this.base = kept;
    }
  }

  /** Let go for now: another tab may take the place over. */
  pause(): void {
    this.let();
    this.unlock();
  }

  private let(): void {
    this.active = false;
    this.turn += 1;
    this.detach();
    this.keepPart();
    this.lock.abort();
  }

  private detach(): void {
    if (this.reader) this.source.send({ do: "detach", reader: this.reader });
    this.reader = "";
  }

  /** Attach (again), where it stands, when the work at hand is done. */
  attach(): void {
    if (!this.active) return;
    const turn = ++this.turn;
    this.detach();
    void this.work.then(() => {
      if (turn !== this.turn || !this.active) return;
      this.reader = this.source.newReader(this);
      const { reader, stream, start, cursor } = this;
      this.source.send({ do: "attach", reader, stream, start, cursor });
    });
  }

  /** From the connection's owner. */
  heard(message: EngineMessage & { readonly reader: string }): void {
    if (message.reader !== this.reader) return;
    switch (message.is) {
      case "item":
        this.accept(message.reader, message.era, message.item, message.check);
        return;
      case "checked":
        this.checked(message.check);
        return;
      case "placed":
        this.isReady(message.outcome);
        if (this.cursor) return;
        this.cursor = message.cursor;
        this.progress(message.cursor);
        // the place itself is worth keeping: a later page goes on behind it
        if (this.stored) this.work = this.work.then(() => this.keep(message.cursor)).catch(this.fail);
        return;
      case "lost":
        this.attach();
        return;
      case "ended":
        this.fail(new HuahuoError(message.error.code, message.error.message, message.error));
    }
  }

  /** With `tabs: "one"`: the place moved on in another tab. */
  elsewhere(cursor: Cursor): void {
    if (!this.one || this.active) return;
    this.progress(cursor);
    this.options.onApplied?.(cursor);
  }

  /** Settles when event `seq` was handled. */
  reached(seq: number): Promise<void> {
    if (this.handled && this.handled.seq >= seq) return Promise.resolve();
    return new Promise((resolve, reject) => this.waiters.push({ seq, resolve, reject }));
  }

  /** Stop reading. What was not handled stays unprocessed. */
  close(): void {
    this.end(new HuahuoError("not_subscribed", `${this.stream}: the subscription was closed`));
  }

  /** Nothing comes any more. */
  readonly fail = (cause: unknown): void => {
    if (this.ended) return;
    const error = cause instanceof HuahuoError
      ? cause
      : new HuahuoError("handler_failed", `${this.stream}: a handler threw`, { cause });
    this.end(error);
    if (this.options.onError) this.options.onError(error);
    else if (error.code !== "stopped") report(error); // the client's state says that
  };

  private end(error: HuahuoError): void {
    if (this.ended) return;
    this.ended = true;
    this.let();
    void this.work.then(this.unlock); // what is being handled still moves the place
    this.isNotReady(error);
    this.isClosed(error);
    for (const { reject } of this.waiters.splice(0)) reject(error);
    this.source.closed(this);
  }

  // -- the work -----------------------------------------------------------------------------------

  /** What was handled last has this check: worth keeping, but nothing depends on it. */
  private checked(check: Check): void {
    if (!this.cursor) return;
    this.cursor = { ...this.cursor, check };
    this.work = this.work.then(async () => {
      if (!this.handled || this.ended) return;
      this.handled = { ...this.handled, check };
      await this.keep(this.handled).catch(() => undefined);
    });
  }

  private accept(reader: string, era: number, item: Item, check: Check | undefined): void {
    const { cursor } = this;
    if (item.kind !== "snapshot" && (cursor?.log !== item.log || cursor.seq !== item.first - 1)) {
      this.attach(); // not what comes next here; ask for what does
      return;
    }
    const end = (this.cursor = cursorAt(item.log, item.last, check));
    this.isReady(item.kind === "snapshot" ? item.outcome : "resumed");
    this.work = this.work.then(async () => {
      try {
        await this.handle(item, end);
        this.source.send({ do: "done", reader, era, seq: item.last });
      } catch (error) {
        if (error === MOVED) await this.again();
        else this.fail(error);
      }
    });
  }

  private async handle(item: Item, end: Cursor): Promise<void> {
    const { onItem, onEvent, onBatch, onSnapshot, onSkipped } = this.options;
    let open = true;
    let committed: Promise<boolean> | null = null;
    const commit: Commit = (transaction) => {
      const { key, base, source: { store } } = this;
      const commits = store.commit;
      if (!open || committed) throw misuse("commit: call it once, before the handler ends");
      if (!this.stored) throw misuse("commit: a subscription with `after` stores no place");
      if (!commits) throw misuse("commit: this cursor store has no transactions; use IndexedDbCursors");
      committed = commits.call(store, transaction, key, end, base);
    };
    if (item.kind === "snapshot" && item.outcome === "reset") this.replaced();
    if (onItem) {
      await onItem(item, commit);
    } else if (item.kind === "snapshot") {
      if (onSnapshot) await onSnapshot(item, commit);
      else this.source.problem("snapshot_ignored", `${this.stream}: a snapshot came and there is no onSnapshot`);
    } else if (item.kind === "skipped") {
      await onSkipped?.(item);
    } else if (onBatch) {
      await onBatch(item.events, commit);
    } else if (onEvent) {
      for (const event of item.events) {
        if (this.ended) return this.keepPart();
        const done = onEvent(event);
        if (done) await done;
        this.progress(cursorAt(item.log, event.seq, this.handled?.check));
      }
    }
    open = false;
    await this.keep(end, committed);
    this.progress(end);
    if (this.one) this.source.applied(this, end);
    if (this.stored) this.options.onApplied?.(end);
  }

  /** The place is stored after the handler has run, or with its transaction. */
  private async keep(end: Cursor, committed: Promise<boolean> | null = null): Promise<void> {
    if (!this.stored) return;
    let kept = true;
    if (committed) {
      kept = await committed;
    } else {
      try {
        kept = await this.source.store.save(this.key, end, this.one ? this.base : undefined);
      } catch (error) {
        this.source.problem("storage_failed", String(error));
      }
    }
    if (!kept && (this.one || committed)) throw MOVED;
    this.base = end;
  }

  /** Somebody else moved the stored place on: go on from there. */
  private async again(): Promise<void> {
    this.cursor = this.handled = this.base = await this.source.store.load(this.key);
    this.attach();
  }

  /** What was handled of a run that is not finished. */
  private keepPart(): void {
    if (!this.stored || this.one || !this.handled || this.handled.seq === this.base?.seq) return;
    void this.keep(this.handled).catch(() => undefined);
  }

  private progress(cursor: Cursor): void {
    this.handled = cursor;
    this.waiters = this.waiters.filter(({ seq, resolve }) => {
      if (seq <= cursor.seq) resolve();
      return seq > cursor.seq;
    });
  }

  private replaced(): void {
    const error = new HuahuoError("log_replaced", `${this.stream}: continues in another log`);
    for (const { reject } of this.waiters.splice(0)) reject(error);
  }
}
