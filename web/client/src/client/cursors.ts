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

  async identity(scope: string): Promise<string> {
    const made = [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(36)).join("");
    let id = made;
    await this.change((kept) => {
      if (kept.result === undefined) kept.source.put(made, scope);
      else id = kept.result as unknown as string;
    }, scope);
    return id;
  }

  async load(key: string): Promise<Cursor | null> {
    const request = (await this.transaction("readonly")).objectStore(this.store).get(key);
    return new Promise((resolve, reject) => {
      request.onsuccess = () => resolve((request.result as Cursor | undefined) ?? null);
      request.onerror = () => reject(failed(request.error));
    });
  }

  async save(key: string, cursor: Cursor, base?: Cursor | null): Promise<boolean> {
    let replace = false;
    await this.change((kept) => {
      replace = replaces(cursor, kept.result ?? null, base);
      if (replace) kept.source.put(cursor, key);
    }, key);
    return replace;
  }

  commit(transaction: IDBTransaction, key: string, cursor: Cursor, base: Cursor | null): Promise<boolean> {
    if (!transaction.objectStoreNames.contains(this.store)) {
      throw misuse(`commit: the transaction must include the object store "${this.store}"`);
    }
    if (transaction.mode === "readonly") throw misuse("commit: the transaction must be readwrite");
    let conflict = false;
    const kept = transaction.objectStore(this.store).get(key) as Kept;
    kept.onsuccess = () => {
      conflict = !replaces(cursor, kept.result ?? null, base);
      // Another tab applied these events, so this transaction must not apply them again.
      if (conflict) transaction.abort();
      else kept.source.put(cursor, key);
    };
    return new Promise((resolve, reject) => {
      transaction.addEventListener("complete", () => resolve(true));
      transaction.addEventListener("abort", () => {
        if (conflict) resolve(false);
        else reject(failed(transaction.error));
      });
    });
  }

  private async change(work: (kept: Kept) => void, key: string): Promise<void> {
    const transaction = await this.transaction("readwrite");
    const kept = transaction.objectStore(this.store).get(key) as Kept;
    kept.onsuccess = () => work(kept);
    await new Promise<void>((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(failed(transaction.error));
    });
  }

  private async transaction(mode: IDBTransactionMode): Promise<IDBTransaction> {
    this.opened ??= this.open();
    const database = await this.opened;
    if (!database.objectStoreNames.contains(this.store)) {
      throw misuse(`the database has no object store "${this.store}": call IndexedDbCursors.createStore in onupgradeneeded`);
    }
    return database.transaction(this.store, mode);
  }

  private open(): Promise<IDBDatabase> {
    return new Promise((resolve, reject) => {
      const request = indexedDB.open(STORE, 1);
      request.onupgradeneeded = () => IndexedDbCursors.createStore(request.result, this.store);
      request.onsuccess = () => {
        request.result.onversionchange = () => {
          request.result.close(); // else a deletion of the database would block
          this.opened = null;
        };
        resolve(request.result);
      };
      request.onerror = request.onblocked = () => reject(failed(request.error));
    });
  }
}

type Kept = IDBRequest<Cursor | undefined> & { readonly source: IDBObjectStore };

const failed = (cause: DOMException | null): HuahuoError =>
  new HuahuoError("storage_failed", `IndexedDB: ${cause?.message ?? "the transaction was aborted"}`, { cause });
