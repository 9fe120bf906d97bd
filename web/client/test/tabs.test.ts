/** Tabs that share a connection and stored places: whichever closes, no event is lost or applied twice. */

import { beforeEach, describe, expect, test, vi } from "vitest";
import { type Cursor, IndexedDbCursors } from "../src/index.js";
import { until } from "./support/claims.js";
import { type Tab, World } from "./support/world.js";

const STREAM = "group/ops";

let world: World;
let database: IDBDatabase;

const numbers = (count: number) => Array.from({ length: count }, (_, index) => index + 1);
const done = (transaction: IDBTransaction) => new Promise((resolve) => (transaction.oncomplete = resolve));

beforeEach(async () => {
  world = new World();
  indexedDB = new IDBFactory();
  const request = indexedDB.open("app", 1);
  request.onupgradeneeded = () => {
    IndexedDbCursors.createStore(request.result);
    request.result.createObjectStore("applied", { autoIncrement: true });
  };
  database = await new Promise((resolve) => (request.onsuccess = () => resolve(request.result)));
});

const applied = async (): Promise<number[]> => {
  const transaction = database.transaction("applied");
  const all = transaction.objectStore("applied").getAll() as IDBRequest<number[]>;
  await done(transaction);
  return all.result;
};

const tab = async (): Promise<Tab> => {
  const made = world.tab({ cursors: new IndexedDbCursors({ database }) });
  await until(() => expect(made.client.state.value.name).toBe("online"));
  return made;
};

/** Reads in memory: what this tab saw. */
const watching = async (where: Tab): Promise<number[]> => {
  const seen: number[] = [];
  await where.client.subscribe(STREAM, { onEvent: ({ seq }) => void seen.push(seq) }).ready;
  return seen;
};

/** Applies each event in one transaction with the place. */
const applying = (where: Tab, more: { onApplied?: (cursor: Cursor) => void; slow?: boolean } = {}) =>
  where.client.subscribe(STREAM, {
    ...(more.onApplied && { onApplied: more.onApplied }),
    async onBatch(events, commit) {
      if (more.slow) await new Promise((resolve) => setTimeout(resolve, 2));
      if (!where.alive) return new Promise(() => undefined); // its code runs no more
      const transaction = database.transaction(["applied", "huahuo"], "readwrite");
      for (const { seq } of events) transaction.objectStore("applied").add(seq);
      commit(transaction);
    },
  });

describe("one connection", () => {
  test("serves all tabs, each of which sees every event", async () => {
    const tabs = [await tab(), await tab(), await tab()];
    const seen = await Promise.all(tabs.map(watching));
    world.append(STREAM, 20);
    await until(() => expect(seen).toEqual([numbers(20), numbers(20), numbers(20)]));
    expect(world.connections).toHaveLength(1);
    expect(tabs.map(({ client }) => client.owner.value)).toEqual([true, false, false]);
  });

  test.each(["kill", "close"] as const)("is taken over when its owner goes (%s), without loss or repeat", async (end) => {
    const [owner, other, third] = [await tab(), await tab(), await tab()];
    const seen = [await watching(other), await watching(third)];
    world.append(STREAM, 30);
    await until(() => expect(seen[0]?.length).toBeGreaterThan(5));
    if (end === "kill") owner.kill();
    else owner.client.close();
    world.append(STREAM, 30);
    await until(() => expect(seen).toEqual([numbers(60), numbers(60)]));
    expect(world.connections).toHaveLength(1);
    expect(other.client.owner.value).toBe(true);
  });

  test("changes its owner many times, and nobody notices", async () => {
    const last = await tab();
    const keep = await tab();
    const seen = await watching(keep);
    last.kill();
    for (let round = 0; round < 5; round++) {
      const next = await tab();
      world.append(STREAM, 7);
      if (round % 2) keep.happen("pagehide");
      else next.kill();
      world.append(STREAM, 7);
      if (round % 2) keep.happen("pageshow");
    }
    await until(() => expect(seen).toEqual(numbers(70)));
  });

  test("answers a command though the owner goes before the reply", async () => {
    const [owner, other] = [await tab(), await tab()];
    const model = world.connection?.model;
    if (model) model.hold = true;
    const reply = other.client.send("note", { x: 1 });
    await until(() => expect(model?.commands).toHaveLength(1));
    model?.execute(model.commands[0] as never);
    owner.kill();
    expect(await reply).toMatchObject({ type: "success", duplicate: true });
    expect(world.log.executed.size).toBe(1);
  });

  test("waits for no tab that is gone", async () => {
    const [owner, other] = [await tab(), await tab()];
    const seen = await watching(owner);
    other.client.subscribe(STREAM, { after: "start", onEvent: () => new Promise(() => undefined) });
    world.append(STREAM, 3);
    await until(() => expect(seen.length).toBe(3));
    other.kill();
    await until(() => expect(world.said("ack").at(-1)?.["cursors"]).toMatchObject({ [STREAM]: 3 }));
  });

  test("stops for all tabs when the server says so", async () => {
    const tabs = [await tab(), await tab()];
    world.connection?.socket.end(4503);
    await until(() => expect(tabs.map(({ client }) => client.state.value.name)).toEqual(["stopped", "stopped"]));
  });

  test("closed in one tab goes on in the others", async () => {
    const [owner, other] = [await tab(), await tab()];
    owner.client.close();
    await until(() => expect(other.client.owner.value).toBe(true));
    await until(() => expect(other.client.state.value.name).toBe("online"));
  });
});

describe("a stored place", () => {
  test("is where a new page goes on", async () => {
    const first = await tab();
    const reading = applying(first);
    await reading.ready;
    world.append(STREAM, 5);
    await until(async () => expect(await applied()).toEqual(numbers(5)));
    first.kill();
    world.append(STREAM, 5);
    applying(await tab());
    await until(async () => expect(await applied()).toEqual(numbers(10)));
  });

  test("is kept from the beginning on, also if nothing came", async () => {
    const first = await tab();
    const reading = first.client.subscribe(STREAM, { onEvent: () => undefined });
    await reading.ready;
    await until(() => expect(reading.handled).toEqual({ log: "log-1", seq: 0 }));
    await vi.waitFor(async () => {
      const transaction = database.transaction("huahuo");
      const kept = transaction.objectStore("huahuo").get(`server.test/42 ${STREAM}`);
      await done(transaction);
      expect(kept.result).toEqual({ log: "log-1", seq: 0 });
    });
    first.kill();
    world.append(STREAM, 4);
    const seen = await watching(await tab());
    await until(() => expect(seen).toEqual(numbers(4)));
  });

  test("is applied in one tab at a time, handed over with its events applied once", async () => {
    const [owner, other] = [await tab(), await tab()];
    const heard: number[] = [];
    await applying(owner, { slow: true }).ready;
    const waiting = applying(other, { onApplied: ({ seq }) => heard.push(seq) });
    for (let round = 0; round < 10; round++) world.append(STREAM, 4);
    await until(() => expect(heard.length).toBeGreaterThan(1));
    expect(waiting.handled?.seq, "a tab that waits hears how far the other is").toBeGreaterThan(0);
    owner.kill();
    world.append(STREAM, 20);
    await until(async () => expect(await applied()).toEqual(numbers(60)));
  });

  test("that somebody else moved on is not moved twice, and the rest is applied", async () => {
    const first = await tab();
    await applying(first).ready;
    world.append(STREAM, 3);
    await until(async () => expect(await applied()).toEqual(numbers(3)));
    // another program of the same origin applied 4 and 5 itself
    const transaction = database.transaction(["applied", "huahuo"], "readwrite");
    [4, 5].forEach((seq) => transaction.objectStore("applied").add(seq));
    transaction.objectStore("huahuo").put({ log: "log-1", seq: 5 }, `server.test/42 ${STREAM}`);
    await done(transaction);
    world.append(STREAM, 6);
    await until(async () => expect(await applied()).toEqual(numbers(9)));
  });

  test("stays where it was when the application's transaction is aborted", async () => {
    const first = await tab();
    const errors: string[] = [];
    await first.client.subscribe(STREAM, {
      onBatch(events, commit) {
        const transaction = database.transaction(["applied", "huahuo"], "readwrite");
        events.forEach(({ seq }) => transaction.objectStore("applied").add(seq));
        commit(transaction);
        transaction.abort();
      },
      onError: ({ code }) => errors.push(code),
    }).ready;
    world.append(STREAM, 3);
    await until(() => expect(errors).toEqual(["storage_failed"]));
    applying(first);
    await until(async () => expect(await applied()).toEqual(numbers(3)));
  });

  const faults: [string, RegExp, (transaction: () => IDBTransaction) => IDBTransaction][] = [
    ["a transaction without the store", /include the object store/, () => database.transaction("applied", "readwrite")],
    ["a transaction that only reads", /readwrite/, () => database.transaction(["applied", "huahuo"])],
  ];
  test.each(faults)("is not committed with %s", async (_, message, open) => {
    const first = await tab();
    const errors: string[] = [];
    await first.client.subscribe(STREAM, {
      onBatch: (__, commit) => commit(open(() => database.transaction("huahuo"))),
      onError: (error) => errors.push(error.message),
    }).ready;
    world.append(STREAM);
    await until(() => expect(errors).toEqual([expect.stringMatching(message)]));
  });

  test("that there is none of is not committed", async () => {
    const first = await tab();
    const errors: string[] = [];
    await first.client.subscribe(STREAM, {
      after: "head",
      onBatch: (_, commit) => commit(database.transaction("huahuo", "readwrite")),
      onError: (error) => errors.push(error.message),
    }).ready;
    world.append(STREAM);
    await until(() => expect(errors).toEqual([expect.stringMatching(/stores no place/)]));
  });
});

test("without sharing each tab connects by itself, under an id of its own", async () => {
  const ids = new Set<unknown>();
  for (const _ of [1, 2]) {
    const alone = world.tab({ share: false, cursors: new IndexedDbCursors({ database }) });
    await until(() => expect(alone.client.state.value.name).toBe("online"));
    ids.add(world.said("authenticate")[0]?.["client"]);
    alone.client.close();
  }
  expect(ids.size).toBe(2);
});

test("a tab of another user has a connection and places of its own", async () => {
  const { tokenOf } = await import("./support/world.js");
  const mine = await tab();
  const other = world.tab({ token: tokenOf(43), cursors: new IndexedDbCursors({ database }) });
  await until(() => expect(other.client.owner.value).toBe(true));
  expect(mine.client.owner.value).toBe(true);
});
