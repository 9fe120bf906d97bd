/**
 * A live list in this tab: its rows, in order, as of one commit. It outlives connections and their owners, and
 * is kept for the next page.
 */

import { HuahuoError } from "../model/errors.js";
import type { Bound, ListPlace, ListRow, Order } from "../model/lists.js";
import { type Observable, Subject } from "../model/observable.js";
import type { ListChange } from "../session/lists.js";
import type { EngineMessage, TabMessage } from "../wire/messages.js";

export const LIMIT_MAX = 1000;
const KEEP_AFTER_MS = 1000;

/** `live`: the rows are those of the server, but for what is on its way. */
export interface ListState {
  readonly name: "connecting" | "live" | "ended";
  /** Why it ended. */
  readonly error?: HuahuoError;
}

/** A connection in a presence. */
export interface Present<Data> {
  readonly client: string;
  readonly user: { readonly user_id: number | string; readonly username: string };
  readonly since: string;
  readonly data: Data;
}

/** A list as an optimistic change sees it. A change is undone when the server's own is there, or none comes. */
export interface Draft {
  readonly list: string;
  readonly fields: object;
  keys(): readonly string[];
  /** The value of a row. */
  get(key: string): unknown;
  put(key: string, value: unknown): void;
  drop(key: string): void;
}

/** What is kept of a list for the next page. */
export interface Kept {
  readonly place: ListPlace;
  readonly order: Order;
  readonly rows: readonly ListRow[];
}

/** What a list needs from its client. */
export interface ListSource {
  newReader(list: LiveList<unknown>): string;
  send(message: TabMessage): void;
  load(list: string, fields: object): Promise<Kept | null>;
  save(list: string, fields: object, kept: Kept | null): Promise<unknown>;
  closed(list: LiveList<unknown>): void;
}

interface Guess {
  readonly change: (draft: Draft) => void;
  /** Undone when the list has reached this. */
  until: number;
}

const idOf = (key: string, part = ""): string => `${part.length}:${part}${key}`;
const idOfBound = (bound: Bound): string => (typeof bound === "string" ? idOf(bound) : idOf(bound[0], bound[1]));
// UTF-16 has the surrogates before U+E000, UTF-8 what they stand for behind it.
const weight = (unit: number): number => (unit < 0xd800 ? unit : unit < 0xe000 ? unit + 0x2000 : unit - 0x800);

/** Texts in the order of their UTF-8 bytes. */
export function compare(one: string, other: string): number {
  const length = Math.min(one.length, other.length);
  for (let at = 0; at < length; at++) {
    const difference = weight(one.charCodeAt(at)) - weight(other.charCodeAt(at));
    if (difference) return difference;
  }
  return one.length - other.length;
}

const inOrder = (one: ListRow, other: ListRow): number => compare(one[0], other[0]) || compare(one[2] ?? "", other[2] ?? "");

export class LiveList<Row> {
  /** The rows in order. */
  readonly rows: Observable<readonly Row[]>;
  /** How the list fares. */
  readonly state: Observable<ListState>;
  /** How many rows would change at `resume`. */
  readonly waiting: Observable<number>;
  private readonly shown = new Subject<readonly unknown[]>([]);
  private readonly fares = new Subject<ListState>({ name: "connecting" });
  private readonly later = new Subject(0);
  private current = new Map<string, ListRow>();
  private changed = new Set<string>();
  private ordered: readonly ListRow[] = [];
  private order: Order = "descending";
  private place: ListPlace | null = null;
  private reader = "";
  private paused = false;
  private active = false;
  private over = false;
  private waiters: { position: number; resolve: () => void; reject: (error: HuahuoError) => void }[] = [];
  private guesses = new Map<string, Guess>();
  private keeping: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly name: string, readonly fields: object, private limit: number, private readonly source: ListSource,
  ) {
    this.rows = this.shown as Observable<readonly Row[]>;
    this.state = this.fares;
    this.waiting = this.later;
    void this.begin();
  }

  /** The keys of `rows`, in order. */
  get keys(): readonly string[] {
    return this.ordered.map(([key]) => key);
  }

  /** Have so many more rows. */
  more(count: number): void {
    this.limit = Math.min(LIMIT_MAX, this.limit + count);
    this.attach();
  }

  /** Show no change until `resume`. `waiting` says how many there are. */
  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    if (!this.place) return;
    this.source.send({ do: "applied", reader: this.reader, position: this.place.position });
    this.show();
  }

  /** Of a presence: what the others are shown of this page. */
  present(data: unknown): void {
    Object.assign(this.fields, { data });
    this.source.send({ do: "present", reader: this.reader, data });
  }

  /** Follow it no more. Its rows stay as they are. */
  close(): void {
    this.detach();
    this.over = true;
    this.active = false;
    this.keep();
    this.source.closed(this as LiveList<unknown>);
    for (const { resolve } of this.waiters.splice(0)) resolve();
  }

  // -- the client's part --------------------------------------------------------------------------

  private async begin(): Promise<void> {
    const kept = this.limit > 0 ? await this.source.load(this.name, this.fields).catch(() => null) : null;
    if (this.over) return;
    if (kept) {
      const { place, order, rows } = kept;
      const last = rows.length > this.limit ? rows[this.limit - 1] : undefined;
      this.order = order;
      this.place = last ? { ...place, bound: last.length > 2 ? [last[0], last[2] ?? ""] : last[0] } : place;
      for (const row of rows.slice(0, this.limit)) this.current.set(idOf(row[0], row[2]), row);
      this.show();
    }
    this.active = true;
    this.attach();
  }

  /** Follow (again) from where the rows stand, on the connection that there is now. */
  attach(): void {
    if (!this.active) return;
    this.detach();
    this.reader = this.source.newReader(this as LiveList<unknown>);
    const { reader, name: list, fields, limit, place } = this;
    this.source.send({ do: "follow", reader, list, fields, limit, place: limit > 0 ? place : null });
  }

  detach(): void {
    if (this.reader) this.source.send({ do: "detach", reader: this.reader });
    this.reader = "";
    if (this.fares.value.name === "live") this.fares.set({ name: "connecting" });
  }

  heard(message: EngineMessage & { readonly reader: string }): void {
    if (message.reader !== this.reader) return;
    if (message.is === "list") this.apply(message.change);
    else if (message.is === "reached") this.reached(message.position);
    else if (message.is === "ended") this.fail(new HuahuoError(message.error.code, message.error.message, message.error));
  }

  fail(error: HuahuoError): void {
    if (this.over) return;
    this.over = true;
    this.active = false;
    this.reader = "";
    if (error.code === "stream_denied") {
      this.current.clear();
      this.place = null;
      void this.source.save(this.name, this.fields, null).catch(() => undefined);
      this.show();
    }
    this.fares.set({ name: "ended", error });
    for (const { reject } of this.waiters.splice(0)) reject(error);
    this.source.closed(this as LiveList<unknown>);
  }

  /** Show a change at once. It is undone by `settle`. */
  guess(id: string, change: (draft: Draft) => void): void {
    if (this.limit < 0) return;
    this.guesses.set(id, { change, until: Infinity });
    this.show();
  }

  /** The command of a guess has its answer: undo the guess when the list has reached `position`. */
  settle(id: string, position: number): void {
    const guess = this.guesses.get(id);
    if (!guess) return;
    guess.until = position;
    this.undo();
    this.show();
  }

  /** Resolves when the rows are those of `position` or a later one, and rejects if the list ends before. */
  has(position: number): Promise<void> {
    const { value } = this.fares;
    if (value.error) return Promise.reject(value.error);
    if (this.paused || this.limit < 0 || (this.place && this.place.position >= position)) return Promise.resolve();
    return new Promise((resolve, reject) => this.waiters.push({ position, resolve, reject }));
  }

  private answer(): void {
    const at = this.place?.position ?? 0;
    this.waiters = this.waiters.filter(({ position, resolve }) => {
      if (position <= at) resolve();
      return position > at;
    });
  }

  private undo(): boolean {
    const count = this.guesses.size;
    for (const [id, { until }] of this.guesses) if (until <= (this.place?.position ?? 0) || !until) this.guesses.delete(id);
    return this.guesses.size < count;
  }

  private apply({ reset, put, drop, order, place }: ListChange): void {
    const before = this.paused ? new Map(this.current) : this.current;
    if (reset) this.current = new Map();
    for (const bound of drop) this.current.delete(idOfBound(bound));
    for (const row of put) this.current.set(idOf(row[0], row[2]), row);
    this.order = order;
    this.place = place;
    if (this.limit > 0 && this.current.size > this.limit) {
      this.current = new Map(this.sorted().slice(0, this.limit).map((row) => [idOf(row[0], row[2]), row]));
    }
    if (this.paused) {
      const count = (rows: Map<string, ListRow>, others: Map<string, ListRow>) => {
        for (const [id, row] of rows) if (others.get(id)?.[1] !== row[1]) this.changed.add(id);
      };
      count(this.current, before);
      count(before, this.current);
      this.later.set(this.changed.size);
    } else {
      this.source.send({ do: "applied", reader: this.reader, position: place.position });
      this.undo();
      this.show();
    }
    if (this.fares.value.name !== "live") this.fares.set({ name: "live" });
    this.keeping ??= setTimeout(() => this.keep(), KEEP_AFTER_MS);
  }

  private reached(position: number): void {
    if (!this.place || this.place.position > position) return;
    this.place = { ...this.place, position };
    if (this.paused) return;
    if (this.undo()) this.show();
    else this.answer();
  }

  private sorted(rows: Iterable<ListRow> = this.current.values()): ListRow[] {
    const sorted = [...rows].sort(inOrder);
    return this.order === "ascending" ? sorted : sorted.reverse();
  }

  private show(): void {
    this.changed.clear();
    if (this.later.value) this.later.set(0);
    let rows = this.current;
    if (this.guesses.size > 0) {
      const guessed = (rows = new Map(rows));
      const draft: Draft = {
        list: this.name,
        fields: this.fields,
        keys: () => this.sorted(guessed.values()).map(([key]) => key),
        get: (key) => guessed.get(idOf(key))?.[1],
        put: (key, value) => void guessed.set(idOf(key), [key, value]),
        drop: (key) => void guessed.delete(idOf(key)),
      };
      for (const { change } of this.guesses.values()) change(draft);
    }
    this.answer();
    this.ordered = this.sorted(rows.values()).slice(0, this.limit > 0 ? this.limit : LIMIT_MAX);
    this.shown.set(this.ordered.map(([, value]) => value));
  }

  /** Keep nothing for the next page. */
  forget(): void {
    this.place = null;
  }

  /** Keep the rows for the next page. */
  keep(): void {
    clearTimeout(this.keeping);
    this.keeping = undefined;
    if (!this.place || this.limit < 0) return;
    const kept = { place: this.place, order: this.order, rows: this.sorted() };
    void this.source.save(this.name, this.fields, kept).catch(() => undefined);
  }
}
