/**
 * One reader of one stream in this tab. It runs the application's handlers, one item at a time, and keeps
 * their cursor. It outlives connections and their owners. It attaches to each under a new reader id, so that
 * late messages for an old id are ignored.
 */

import type { CursorStore } from "./cursors.js";
import { HuahuoError, misuse } from "../model/errors.js";
import type { EngineMessage, TabMessage } from "../wire/messages.js";
import {
  type After, type Check, type Cursor, cursorAt, type Item, type Outcome, type Skipped, type Snapshot, type StreamEvent,
} from "../model/model.js";
import { report } from "../model/observable.js";

/**
 * Store the new cursor in the same transaction as the application's state. Call it with a readwrite
 * transaction that includes the store of `IndexedDbCursors`.
 */
export type Commit = (transaction: IDBTransaction) => void;

type Done = void | Promise<void>;

/** Called one at a time. If a handler throws, the subscription ends. */
export interface Handlers {
  /** Every event in turn. Give this, `onBatch` or `onItem`. */
  onEvent?(event: StreamEvent): Done;
  /** Every run of events in turn. */
  onBatch?(events: readonly StreamEvent[], commit: Commit): Done;
  /** Everything in turn: runs, snapshots and skips. */
  onItem?(item: Item, commit: Commit): Done;
  /** A state that replaces the known one: it was requested, or the events before it are gone. */
  onSnapshot?(snapshot: Snapshot, commit: Commit): Done;
  /** Events were compacted away. The next ones follow. */
  onSkipped?(skipped: Skipped): Done;
  /** The stored cursor advanced, in this tab or in another (with `tabs: "one"`). */
  onApplied?(cursor: Cursor): void;
  /** The subscription ended. Without this handler the error is reported as uncaught. */
  onError?(error: HuahuoError): void;
}

export interface SubscribeOptions extends Handlers {
  /**
   * Where to begin. The cursor then belongs to this tab and is not stored. Default: after the stored cursor,
   * or at the head if there is none.
   */
  readonly after?: After | Cursor;
  /**
   * For a stored cursor. `each`: every tab gets every event. `one`, for state that tabs share: the handlers
   * run in one tab at a time, and when that tab closes, another one continues after its last commit.
   * Default: `one` with `onBatch`, else `each`.
   */
  readonly tabs?: "each" | "one";
}

/** What a subscription needs from its client. */
export interface Source {
  readonly store: CursorStore;
  readonly locks: LockManager | null;
  /** The key of a stream's stored cursor. Settles when the client knows its user. */
  key(stream: string): Promise<string>;
  newReader(subscription: Subscription): string;
  send(message: TabMessage): void;
  applied(subscription: Subscription, cursor: Cursor): void;
  problem(code: string, message: string): void;
  closed(subscription: Subscription): void;
}

const MOVED = Symbol("somebody else applied these events");

export class Subscription {
  /** Resolves when the server has placed this subscription in the stream. */
  readonly ready: Promise<Outcome>;
  /** Resolves at the end with the reason. If the application closed it, that is `not_subscribed`. */
  readonly closed: Promise<HuahuoError>;
  /** Everything up to here was handled. Null: there is no position yet. */
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
    this.ready.catch(() => undefined); // not "uncaught" if the application does not await it
  }

  /** Begin, or continue after `pause`. */
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
    // What this tab handled may not be stored yet.
    const kept = await store.load(this.key);
    if (this.one || !this.handled || (kept?.log === this.handled.log && kept.seq > this.handled.seq)) {
      this.handled = this.cursor = this.base = kept;
    }
  }

  /** Stop for now, so that another tab can continue. */
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

  /** Attach (again) at the current cursor, when the running handler is done. */
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

  /** A message from the connection's owner. */
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
        // Store the place even without events: a later page then continues after it.
        if (this.stored) this.work = this.work.then(() => this.keep(message.cursor)).catch(this.fail);
        return;
      case "lost":
        this.attach();
        return;
      case "ended":
        this.fail(new HuahuoError(message.error.code, message.error.message, message.error));
    }
  }

  /** With `tabs: "one"`: the cursor advanced in another tab. */
  elsewhere(cursor: Cursor): void {
    if (!this.one || this.active) return;
    this.progress(cursor);
    this.options.onApplied?.(cursor);
  }

  /** Resolves when event `seq` was handled. */
  reached(seq: number): Promise<void> {
    if (this.handled && this.handled.seq >= seq) return Promise.resolve();
    return new Promise((resolve, reject) => this.waiters.push({ seq, resolve, reject }));
  }

  /** Stop reading. What was not handled stays unprocessed. */
  close(): void {
    this.end(new HuahuoError("not_subscribed", `${this.stream}: the subscription was closed`));
  }

  /** End the subscription with an error. */
  readonly fail = (cause: unknown): void => {
    if (this.ended) return;
    const error = cause instanceof HuahuoError
      ? cause
      : new HuahuoError("handler_failed", `${this.stream}: a handler threw`, { cause });
    this.end(error);
    if (this.options.onError) this.options.onError(error);
    else if (error.code !== "stopped") report(error); // the client's state shows that
  };

  private end(error: HuahuoError): void {
    if (this.ended) return;
    this.ended = true;
    this.let();
    void this.work.then(this.unlock); // a running handler still advances the cursor
    this.isNotReady(error);
    this.isClosed(error);
    for (const { reject } of this.waiters.splice(0)) reject(error);
    this.source.closed(this);
  }

  // -- the work -----------------------------------------------------------------------------------

  /** Store the check of the last handled event. A failure is ignored, because checks are optional. */
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
      this.attach(); // not the next item: attach again at the cursor
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

  /** Store the cursor after the handler has run, or with its transaction. */
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

  /** Another tab advanced the stored cursor: continue from it. */
  private async again(): Promise<void> {
    this.cursor = this.handled = this.base = await this.source.store.load(this.key);
    this.attach();
  }

  /** Store the handled part of an unfinished run. */
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
