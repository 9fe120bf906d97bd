/** Both stores keep the same promises; IndexedDB's survive the object. */

import "fake-indexeddb/auto";
import { openDB, unwrap } from "idb";
import { beforeEach, describe, expect, test } from "vitest";
import { type CursorStore, IndexedDbCursors, MemoryCursors } from "../src/index.js";

beforeEach(() => {
  indexedDB = new IDBFactory();
});

const stores: [string, () => CursorStore][] = [
  ["memory", () => new MemoryCursors("me")],
  ["IndexedDB", () => new IndexedDbCursors()],
];

describe.each(stores)("in %s", (_, make) => {
  test("nothing is kept at first", async () => expect(await make().load("k")).toBeNull());

  test("a place is kept, and others stay as they are", async () => {
    const store = make();
    await store.save("k", { log: "a", seq: 3 });
    await store.save("other", { log: "a", seq: 9 });
    expect(await store.load("k")).toEqual({ log: "a", seq: 3 });
  });

  test("a place does not go back in its log", async () => {
    const store = make();
    await store.save("k", { log: "a", seq: 3 });
    expect(await store.save("k", { log: "a", seq: 2 })).toBe(false);
    expect(await store.load("k")).toEqual({ log: "a", seq: 3 });
  });

  test("another log's place replaces it, whatever its number", async () => {
    const store = make();
    await store.save("k", { log: "a", seq: 3 });
    expect(await store.save("k", { log: "b", seq: 1 })).toBe(true);
  });

  test("with a base it moves from there only", async () => {
    const store = make();
    expect(await store.save("k", { log: "a", seq: 3 }, null)).toBe(true);
    expect(await store.save("k", { log: "a", seq: 5 }, { log: "a", seq: 4 })).toBe(false);
    expect(await store.save("k", { log: "a", seq: 5 }, { log: "a", seq: 3 })).toBe(true);
  });

  test("the installation has one id", async () => {
    const store = make();
    expect(await store.identity("s")).toBe(await store.identity("s"));
  });
});

test("IndexedDB's places and ids are there for the next page", async () => {
  await new IndexedDbCursors().save("k", { log: "a", seq: 3 });
  const id = await new IndexedDbCursors().identity("s");
  expect(await new IndexedDbCursors().load("k")).toEqual({ log: "a", seq: 3 });
  expect(await new IndexedDbCursors().identity("s")).toBe(id);
});

test("an application's database without the store is refused with what to do", async () => {
  const request = indexedDB.open("app", 1);
  const database = await new Promise<IDBDatabase>((resolve) => (request.onsuccess = () => resolve(request.result)));
  await expect(new IndexedDbCursors({ database }).load("k")).rejects.toThrowError(/createStore/);
});

test("a database that idb opened is as good as any other, also for a transaction of the application", async () => {
  const database = await openDB("app", 1, { upgrade: (made) => void made.createObjectStore("huahuo") });
  const cursors = new IndexedDbCursors({ database: unwrap(database) });
  const wrapped = new IndexedDbCursors({ database: database as unknown as IDBDatabase });
  const transaction = database.transaction("huahuo", "readwrite") as unknown as IDBTransaction;
  expect(await wrapped.commit(transaction, "k", { log: "a", seq: 3 }, null)).toBe(true);
  expect(await wrapped.save("k", { log: "a", seq: 4 })).toBe(true);
  expect(await cursors.load("k")).toEqual({ log: "a", seq: 4 });
});

test("a transaction over events that another tab applied is aborted", async () => {
  const database = unwrap(await openDB("app", 1, { upgrade: (made) => void made.createObjectStore("huahuo") }));
  const cursors = new IndexedDbCursors({ database });
  await cursors.save("k", { log: "a", seq: 3 });
  const transaction = database.transaction("huahuo", "readwrite");
  transaction.objectStore("huahuo").put("mine", "other");
  expect(await cursors.commit(transaction, "k", { log: "a", seq: 3 }, null)).toBe(false);
  expect(await cursors.load("other")).toBeNull();
});
