/** Live lists: what a page shows of them, over everything that happens to it. */

import { beforeEach, describe, expect, test, vi } from "vitest";
import { compare } from "../src/client/list.js";
import { IndexedDbCursors, type LiveList, MemoryCursors } from "../src/index.js";
import { store } from "../src/svelte.js";
import { type Tab, World } from "./support/world.js";

const LIST = "open";
let world: World;
let tab: Tab;
const until = <T,>(look: () => T): Promise<T> => vi.waitFor(look, { timeout: 2000, interval: 1 });
const set = (changes: Record<string, unknown>) => {
  const position = world.log.lists.set(LIST, changes);
  world.pump();
  return position;
};
const online = (one: Tab) => until(() => expect(one.client.state.value.name).toBe("online"));
const shows = (list: LiveList<unknown>, rows: unknown[]) => until(() => expect(list.rows.value).toEqual(rows));

beforeEach(async () => {
  indexedDB.deleteDatabase("huahuo");
  world = new World();
  world.log.lists.set(LIST, { a: 1, b: 2, c: 3 });
  tab = world.tab({ cursors: new MemoryCursors("me") });
  await online(tab);
});

test("a list has its first rows, and then each change of them", async () => {
  const list = tab.client.list(LIST, {}, { limit: 2 });
  await shows(list, [1, 2]);
  expect(list.keys).toEqual(["a", "b"]);
  expect(list.state.value.name).toBe("live");
  set({ a: undefined });
  await shows(list, [2, 3]);
  set({ A: 0, c: 33 });
  await shows(list, [0, 2]);
  list.more(5);
  await shows(list, [0, 2, 33]);
  list.close();
  await until(() => expect(world.connection?.model.views.open).toEqual([]));
});

test("after a cut it gets what changed, and no more", async () => {
  const list = tab.client.list(LIST);
  await shows(list, [1, 2, 3]);
  world.cut();
  world.log.lists.set(LIST, { b: undefined, d: 4 });
  await shows(list, [1, 3, 4]);
  const again = world.said("follow").at(-1) as { from?: { position: number } };
  expect(again.from?.position).toBe(1);
});

test("a list of another log is shown anew", async () => {
  const list = tab.client.list(LIST);
  await shows(list, [1, 2, 3]);
  world.log.lists.table(LIST).clear();
  world.log.replace();
  world.log.lists.set(LIST, { z: 26 });
  world.cut();
  await shows(list, [26]);
});

test("what changes in a pause is counted, and comes together at its end", async () => {
  const list = tab.client.list(LIST);
  await shows(list, [1, 2, 3]);
  list.pause();
  for (let n = 0; n < 8; n++) set({ a: 10 + n });
  set({ d: 4 });
  await until(() => expect(list.waiting.value).toBeGreaterThan(0));
  expect(list.rows.value).toEqual([1, 2, 3]);
  list.resume();
  await shows(list, [17, 2, 3, 4]);
  expect(list.waiting.value).toBe(0);
});

test("a list that is not there, or not for this user, ends with its error", async () => {
  world.log.lists.denied.add("secret");
  const [denied, unknown] = [tab.client.list("secret"), tab.client.list("unknown")];
  await until(() => expect(denied.state.value.error?.code).toBe("stream_denied"));
  await until(() => expect(unknown.state.value.error?.code).toBe("not_found"));
});

test("a right that ends takes the rows away", async () => {
  const list = tab.client.list(LIST);
  await shows(list, [1, 2, 3]);
  const { model, socket } = world.connection as NonNullable<World["connection"]>;
  for (const frame of model.views.end(LIST)) socket.deliver(frame);
  await shows(list, []);
  expect(list.state.value.name).toBe("ended");
});

describe("an optimistic change", () => {
  const answer = (code = "") => {
    const { model, socket } = world.connection as NonNullable<World["connection"]>;
    const { id } = model.commands.at(-1) as unknown as { id: string };
    if (code) return socket.deliver({ type: "error", id, code, message: "no" });
    const position = world.log.lists.set(LIST, { d: "server" });
    socket.deliver({ type: "success", id, at: { stream: "user/42", seq: 1, position } });
    world.pump();
    socket.deliver(model.views.reached(position));
  };

  test("is shown at once and is never beside the server's own", async () => {
    const list = tab.client.list(LIST);
    await shows(list, [1, 2, 3]);
    (world.connection as NonNullable<World["connection"]>).model.hold = true;
    const seen: (readonly unknown[])[] = [];
    list.rows.subscribe((rows) => seen.push(rows));
    const sent = tab.client.send("offer", {}, { optimistic: (draft) => draft.put("e", "guess") });
    expect(list.rows.value).toEqual([1, 2, 3, "guess"]);
    await until(() => expect(world.said("offer")).toHaveLength(1));
    answer();
    await sent;
    await shows(list, [1, 2, 3, "server"]);
    expect(seen.filter((rows) => rows.includes("server") && rows.includes("guess"))).toEqual([]);
  });

  test("is undone when the command is refused", async () => {
    const list = tab.client.list(LIST);
    await shows(list, [1, 2, 3]);
    (world.connection as NonNullable<World["connection"]>).model.hold = true;
    const sent = tab.client.send("offer", {}, { optimistic: (draft) => draft.drop("a") });
    expect(list.rows.value).toEqual([2, 3]);
    await until(() => expect(world.said("offer")).toHaveLength(1));
    answer("conflict");
    await expect(sent).rejects.toMatchObject({ code: "conflict" });
    expect(list.rows.value).toEqual([1, 2, 3]);
  });
});

test("an applied command is in the lists of the tab", async () => {
  const list = tab.client.list(LIST);
  await shows(list, [1, 2, 3]);
  const { model, socket } = world.connection as NonNullable<World["connection"]>;
  model.hold = true;
  const sent = tab.client.send("offer", {}, { applied: true });
  await until(() => expect(world.said("offer")).toHaveLength(1));
  const position = world.log.lists.set("other", { x: 1 });
  socket.deliver({ type: "success", id: model.commands[0]?.["id"], at: { stream: "order/1", seq: 1, position } });
  let done = false;
  void sent.then(() => (done = true));
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(done).toBe(false);
  socket.deliver(model.views.reached(position));
  await sent;
});

describe("with IndexedDB", () => {
  beforeEach(() => tab.kill());
  const page = () => world.tab({ cursors: new IndexedDbCursors() });

  test("a reloaded page shows its last rows at once, and then what changed", async () => {
    const first = page();
    const list = first.client.list(LIST, {}, { limit: 2 });
    await shows(list, [1, 2]);
    first.client.close();
    world.reachable = false;
    world.log.lists.set(LIST, { b: 22 });
    const second = page();
    const again = second.client.list(LIST, {}, { limit: 2 });
    await shows(again, [1, 2]);
    expect(again.state.value.name).toBe("connecting");
    world.reachable = true;
    await shows(again, [1, 22]);
    const { from } = world.said("follow").at(-1) as { from?: { bound: string } };
    expect(from?.bound).toBe("b");
  });

  test("signing out leaves nothing for the next page", async () => {
    const first = page();
    await shows(first.client.list(LIST), [1, 2, 3]);
    await new Promise((resolve) => setTimeout(resolve, 1100));
    await first.client.signOut();
    world.reachable = false;
    const again = page().client.list(LIST);
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(again.rows.value).toEqual([]);
  });
});

test("tabs share one connection and one view, also when its owner dies", async () => {
  const store = new MemoryCursors("us");
  const one = world.tab({ cursors: store });
  await online(one);
  const first = one.client.list(LIST);
  await shows(first, [1, 2, 3]);
  const two = world.tab({ cursors: store });
  await online(two);
  const second = two.client.list(LIST);
  await shows(second, [1, 2, 3]);
  set({ d: 4 });
  await shows(first, [1, 2, 3, 4]);
  await shows(second, [1, 2, 3, 4]);
  expect(world.connection?.model.views.open).toEqual([LIST]);
  first.pause();
  for (let n = 0; n < 10; n++) {
    set({ d: n });
    await shows(second, [1, 2, 3, n]);
  }
  one.kill();
  set({ e: 5 });
  await shows(second, [1, 2, 3, 9, 5]);
});

test("the state of an entity is the server's, over cuts and in every tab", async () => {
  world.log.lists.states.set("order/7", { seq: 3, state: { n: 1, gone: 1, kept: { a: [1] } } });
  const entity = tab.client.entity("order/7");
  await until(() => expect(entity.value).toEqual({ value: { n: 1, gone: 1, kept: { a: [1] } }, seq: 3, error: undefined }));
  world.log.lists.states.set("order/7", { seq: 4, state: { n: 2, kept: { a: [1] } } });
  world.pump();
  await until(() => expect(entity.value.value).toEqual({ n: 2, kept: { a: [1] } }));
  const again = tab.client.entity("order/7");
  await until(() => expect(again.value.seq).toBe(4));
  world.cut();
  world.log.lists.states.set("order/7", { seq: 5, state: { n: 3, kept: {} } });
  await until(() => expect(entity.value.value).toEqual({ n: 3, kept: {} }));
  await until(() => expect(again.value.seq).toBe(5));
  const denied = tab.client.entity("order/8");
  await until(() => expect(denied.value.error?.code).toBe("stream_denied"));
});

test("a presence shows who is there, and what one shows of oneself, also after a cut", async () => {
  const here = tab.client.presence("room/7", { typing: false });
  const data = () => here.rows.value.map((row) => row.data as unknown).sort();
  await until(() => expect(here.rows.value).toHaveLength(2));
  here.present({ typing: true });
  await until(() => expect(data()).toEqual([{ typing: true }]));
  world.cut();
  await until(() => expect(world.said("follow").at(-1)).toMatchObject({ presence: "room/7", data: { typing: true } }));
  expect(world.said("follow").at(-1)).not.toHaveProperty("from");
  here.close();
});

test("a store of Svelte is called at once, and with each change", async () => {
  const list = tab.client.list(LIST);
  await shows(list, [1, 2, 3]);
  const seen: unknown[] = [];
  const end = store(list.rows).subscribe((rows) => seen.push(rows));
  expect(seen).toEqual([[1, 2, 3]]);
  set({ a: undefined });
  await until(() => expect(seen.at(-1)).toEqual([2, 3]));
  end();
});

test("keys are in the order of their UTF-8 bytes", () => {
  const keys = ["a", "é", "\u{10ffff}", "\uffff", "\ue000", "\ud7ff", "", "ab"];
  const byBytes = [...keys].sort((x, y) => Buffer.compare(Buffer.from(x), Buffer.from(y)));
  expect([...keys].sort(compare)).toEqual(byBytes);
});
