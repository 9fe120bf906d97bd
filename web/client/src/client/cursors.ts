/** Stores of cursors, which outlive a page. */

import { openDB, unwrap, wrap, type IDBPDatabase } from "idb";
import { HuahuoError, misuse } from "../model/errors.js";
import type { Cursor } from "../model/model.js";

/** Stores a cursor for each key. The client makes the keys. */
export interface CursorStore {
  /** The id of this installation for `scope` (a server and a user), made by the first call. */
  identity(scope: string): Promise<string>;
  load(key: string): Promise<Cursor | null>;
  /**
   * Store `cursor`, unless the result is false. With `base`, only if `base` is stored now. Without, unless
   * a later cursor of the same log is stored. At the same seq, a cursor with a check replaces the stored one.
   */
  save(key: string, cursor: Cursor, base?: Cursor | null): Promise<boolean>;
  /** As `save`, inside a transaction of the application. Settles with the transaction. */
  commit?(transaction: IDBTransaction, key: string, cursor: Cursor, base: Cursor | null): Promise<boolean>;
}

const same = (one: Cursor | null, other: Cursor | null): boolean =>
  one === other || (one !== null && other !== null && one.log === other.log && one.seq === other.seq);

/** Whether `cursor` may replace `kept`. */
function replaces(cursor: Cursor, kept: Cursor | null, base?: Cursor | null): boolean {
  if (base !== undefined) return same(kept, base);
  if (kept === null || kept.log !== cursor.log || kept.seq < cursor.seq) return true;
  return kept.seq === cursor.seq && cursor.check !== undefined;
}

/** In memory, for as long as the page lives. */
export class MemoryCursors implements CursorStore {
  private readonly kept = new Map<string, Cursor>();
  private readonly id: string;

  constructor(id = Math.random().toString(36).slice(2)) {
    this.id = id;
  }

  identity(): Promise<string> {
    return Promise.resolve(this.id);
  }

  load(key: string): Promise<Cursor | null> {
    return Promise.resolve(this.kept.get(key) ?? null);
  }

  save(key: string, cursor: Cursor, base?: Cursor | null): Promise<boolean> {
    const replace = replaces(cursor, this.kept.get(key) ?? null, base);
    if (replace) this.kept.set(key, cursor);
    return Promise.resolve(replace);
  }
}

const STORE = "huahuo";

export interface IndexedDbOptions {
  /** A database of the application, so that one transaction can write state and cursor. */
  readonly database?: IDBDatabase | Promise<IDBDatabase>;
  /** Its object store (default `huahuo`), made with `IndexedDbCursors.createStore`. */
  readonly store?: string;
}

/** In IndexedDB: outlives the page, and all tabs share it. */
export class IndexedDbCursors implements CursorStore {
  private readonly store: string;
  private opened: Promise<IDBPDatabase> | null;

  constructor(options: IndexedDbOptions = {}) {
    this.store = options.store ?? STORE;
    this.opened = options.database ? Promise.resolve(options.database).then((database) => wrap(database)) : null;
  }

  /** Make the object store. Call it in `onupgradeneeded` of the application's database. */
  static createStore(database: IDBDatabase, store = STORE): void {
    if (!database.objectStoreNames.contains(store)) database.createObjectStore(store);
  }

  identity(scope: string): Promise<string> {
    const made = [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(36)).join("");
    return this.change<string, string>(scope, (kept, put) => {
      if (kept === null) put(made);
      return kept ?? made;
    });
  }

  async load(key: string): Promise<Cursor | null> {
    const { store } = await this.transaction("readonly");
    return ((await store.get(key).catch(failed)) as Cursor | undefined) ?? null;
  }

  save(key: string, cursor: Cursor, base?: Cursor | null): Promise<boolean> {
    return this.change<Cursor, boolean>(key, (kept, put) => {
      const replace = replaces(cursor, kept, base);
      if (replace) put(cursor);
      return replace;
    });
  }

  commit(transaction: IDBTransaction, key: string, cursor: Cursor, base: Cursor | null): Promise<boolean> {
    if (!transaction.objectStoreNames.contains(this.store)) {
      throw misuse(`commit: the transaction must include the object store "${this.store}"`);
    }
    if (transaction.mode === "readonly") throw misuse("commit: the transaction must be readwrite");
    const ours = wrap(transaction);
    const store = ours.objectStore(this.store) as unknown as Store;
    let conflict = false;
    // Another tab applied these events, so this transaction must not apply them again.
    const decided = store.get(key).then((kept) => {
      conflict = !replaces(cursor, (kept as Cursor | undefined) ?? null, base);
      if (conflict) ours.abort();
      else void store.put(cursor, key).catch(() => undefined); // `done` tells of it
    });
    return Promise.all([decided, ours.done]).then(() => true, (error: unknown) => (conflict ? false : failed(error)));
  }

  private async change<T, R>(key: string, work: (kept: T | null, put: (value: T) => void) => R): Promise<R> {
    const { store, done } = await this.transaction("readwrite");
    const changed = store.get(key).then((kept) =>
      work((kept as T | undefined) ?? null, (value) => void store.put(value, key).catch(() => undefined)),
    );
    return Promise.all([changed, done]).then(([result]) => result, failed);
  }

  private async transaction(mode: "readonly" | "readwrite"): Promise<{ store: Store; done: Promise<void> }> {
    this.opened ??= openDB(STORE, 1, {
      upgrade: (database) => IndexedDbCursors.createStore(unwrap(database), this.store),
      blocking: (_current, _blocked, event) => {
        (event.target as IDBDatabase).close(); // else a deletion of the database would block
        this.opened = null;
      },
    }).catch(failed);
    const database = await this.opened;
    if (!database.objectStoreNames.contains(this.store)) {
      throw misuse(`the database has no object store "${this.store}": call IndexedDbCursors.createStore in onupgradeneeded`);
    }
    return database.transaction(this.store, mode) as unknown as { store: Store; done: Promise<void> };
  }
}

interface Store {
  get(key: string): Promise<unknown>;
  put(value: unknown, key: string): Promise<unknown>;
}

function failed(cause: unknown): never {
  const text = cause instanceof Error && cause.message ? cause.message : "the transaction was aborted";
  throw new HuahuoError("storage_failed", `IndexedDB: ${text}`, { cause });
}
