/** Stores of cursors, which outlive a page. */

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
  /** Keep any value (null: none) until the next page. */
  remember?(key: string, value: unknown): Promise<void>;
  recall?(key: string): Promise<unknown>;
  /** Forget what was kept under keys that begin with `prefix`. */
  forget?(prefix: string): Promise<void>;
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
  private opened: Promise<IDBDatabase> | null;

  constructor(options: IndexedDbOptions = {}) {
    this.store = options.store ?? STORE;
    this.opened = options.database ? Promise.resolve(options.database) : null;
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

  load(key: string): Promise<Cursor | null> {
    return this.recall(key) as Promise<Cursor | null>;
  }

  save(key: string, cursor: Cursor, base?: Cursor | null): Promise<boolean> {
    return this.change<Cursor, boolean>(key, (kept, put) => {
      const replace = replaces(cursor, kept, base);
      if (replace) put(cursor);
      return replace;
    });
  }

  async remember(key: string, value: unknown): Promise<void> {
    const transaction = await this.transaction("readwrite");
    const store = transaction.objectStore(this.store);
    sent(value === null ? store.delete(key) : store.put(value, key));
    await done(transaction).catch(failed);
  }

  async recall(key: string): Promise<unknown> {
    const transaction = await this.transaction("readonly");
    return (await got(transaction.objectStore(this.store).get(key)).catch(failed)) ?? null;
  }

  async forget(prefix: string): Promise<void> {
    const transaction = await this.transaction("readwrite");
    sent(transaction.objectStore(this.store).delete(IDBKeyRange.bound(prefix, `${prefix}\uffff`)));
    await done(transaction).catch(failed);
  }

  commit(transaction: IDBTransaction, key: string, cursor: Cursor, base: Cursor | null): Promise<boolean> {
    if (!transaction.objectStoreNames.contains(this.store)) {
      throw misuse(`commit: the transaction must include the object store "${this.store}"`);
    }
    if (transaction.mode === "readonly") throw misuse("commit: the transaction must be readwrite");
    const store = transaction.objectStore(this.store);
    let conflict = false;
    // Another tab applied these events, so this transaction must not apply them again.
    const decided = got<Cursor | undefined>(store.get(key)).then((kept) => {
      conflict = !replaces(cursor, kept ?? null, base);
      if (conflict) transaction.abort();
      else sent(store.put(cursor, key));
    });
    return Promise.all([decided, done(transaction)]).then(() => true, (error: unknown) => (conflict ? false : failed(error)));
  }

  private async change<T, R>(key: string, work: (kept: T | null, put: (value: T) => void) => R): Promise<R> {
    const transaction = await this.transaction("readwrite");
    const store = transaction.objectStore(this.store);
    const changed = got<T | undefined>(store.get(key)).then((kept) => work(kept ?? null, (value) => sent(store.put(value, key))));
    return Promise.all([changed, done(transaction)]).then(([result]) => result, failed);
  }

  private async transaction(mode: "readonly" | "readwrite"): Promise<IDBTransaction> {
    const database = await (this.opened ??= this.open().catch(failed));
    if (!database.objectStoreNames.contains(this.store)) {
      throw misuse(`the database has no object store "${this.store}": call IndexedDbCursors.createStore in onupgradeneeded`);
    }
    return database.transaction(this.store, mode);
  }

  private async open(): Promise<IDBDatabase> {
    const request = indexedDB.open(STORE, 1);
    request.onupgradeneeded = () => IndexedDbCursors.createStore(request.result, this.store);
    const database = await got(request);
    database.onversionchange = () => {
      database.close(); // else a deletion of the database would block
      this.opened = null;
    };
    return database;
  }
}

/** Its result. The package idb gives promises in place of requests. */
const got = <T>(request: IDBRequest<T>): Promise<T> => "then" in request ? (request as unknown as Promise<T>) : new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error as Error);
});

/** Its transaction tells how it ended. */
const sent = (request: IDBRequest): void => void got(request).catch(() => undefined);

const done = (transaction: IDBTransaction): Promise<void> => new Promise((resolve, reject) => {
  transaction.addEventListener("complete", () => resolve());
  transaction.addEventListener("abort", () => reject(transaction.error as Error));
});

function failed(cause: unknown): never {
  const text = cause instanceof Error && cause.message ? cause.message : "the transaction was aborted";
  throw new HuahuoError("storage_failed", `IndexedDB: ${text}`, { cause });
}
