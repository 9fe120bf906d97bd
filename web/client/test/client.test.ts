/** What an application may rely on: commands, tokens, the page's life, the id of the installation. */

import { beforeEach, describe, expect, test, vi } from "vitest";
import { type ClientOptions, HuahuoError, IndexedDbCursors, MemoryCursors } from "../src/index.js";
import { online, refusal, state, until } from "./support/claims.js";
import { tokenOf, World } from "./support/world.js";

const STREAM = "group/ops";
const nothing = () => undefined;

let world: World;
beforeEach(() => {
  world = new World();
});

describe("commands", () => {
  test("given before and without a connection are executed once", async () => {
    world.reachable = false;
    const tab = world.tab({ cursors: new MemoryCursors("me") });
    const replies = [tab.client.send("note", { x: 1 }), tab.client.send("note", { x: 2 })];
    await until(() => expect(state(tab)).toBe("offline"));
    world.reachable = true;
    expect((await Promise.all(replies)).map(({ type }) => type)).toEqual(["success", "success"]);
    expect(world.log.executed.size).toBe(2);
  });

  test("are said again with their ids when the reply was lost", async () => {
    const tab = await online(world);
    const model = world.connection?.model;
    if (model) model.hold = true;
    const reply = tab.client.send("note");
    await until(() => expect(model?.commands).toHaveLength(1));
    model?.execute(model.commands[0] as never);
    world.cut();
    expect(await reply).toMatchObject({ type: "success", duplicate: true });
    expect(world.log.executed.size).toBe(1);
  });

  test("that answer page by page are asked until there is no next", async () => {
    const tab = await online(world);
    const send = vi.spyOn(tab.client, "send").mockImplementation(async (_action: string, fields?: object) => {
      const { before } = fields as { before?: string };
      return { type: "emails_list", id: "", next: before === undefined ? "p2" : before === "p2" ? "p3" : null };
    });
    const nexts: unknown[] = [];
    for await (const { next } of tab.client.pages("get_all_emails", { limit: 2, sort: "-email" })) nexts.push(next);
    expect(nexts).toEqual(["p2", "p3", null]);
    expect(send.mock.calls).toEqual([
      ["get_all_emails", { limit: 2, sort: "-email" }],
      ["get_all_emails", { limit: 2, sort: "-email", before: "p2" }],
      ["get_all_emails", { limit: 2, sort: "-email", before: "p3" }],
    ]);
  });

  test("beyond the limit are refused, those that wait are not", async () => {
    world.reachable = false;
    const tab = world.tab({ commandsMax: 2, cursors: new MemoryCursors("me") });
    const kept = [tab.client.send("note"), tab.client.send("note")];
    expect(await refusal(tab.client.send("note"))).toBe("queue_full");
    world.reachable = true;
    await Promise.all(kept);
  });

  test("wait until their effect was handled here", async () => {
    const tab = await online(world);
    const seen: number[] = [];
    await tab.client.subscribe("user/42", { onEvent: ({ seq }) => void seen.push(seq) }).ready;
    const reply = await tab.client.send("note", {}, { applied: true });
    expect(seen).toContain(reply.at?.seq);
  });

  test("that wait for an effect nobody reads say so, with the reply", async () => {
    const tab = await online(world);
    const error = await tab.client.send("note", {}, { applied: true }).catch((thrown: HuahuoError) => thrown);
    expect(error).toMatchObject({ code: "not_subscribed", reply: { type: "success" } });
  });

  test("are given up by a signal", async () => {
    world.reachable = false;
    const tab = world.tab({ cursors: new MemoryCursors("me") });
    const abort = new AbortController();
    const reply = tab.client.send("note", {}, { signal: abort.signal });
    abort.abort();
    expect(await refusal(reply)).toBe("aborted");
    world.reachable = true;
    await until(() => expect(state(tab)).toBe("online"));
    await tab.client.send("other");
    expect(world.connection?.model.commands.map(({ action }) => action)).toEqual(["other"]);
  });

  test("are refused by a client that stopped", async () => {
    const tab = await online(world);
    const model = world.connection?.model;
    if (model) model.hold = true;
    const reply = tab.client.send("note");
    tab.client.close();
    expect(await refusal(reply)).toBe("stopped");
    expect(await refusal(tab.client.send("note"))).toBe("stopped");
  });
});

describe("tokens", () => {
  test("are asked for again until there is one", async () => {
    let count = 0;
    const tab = await online(world, {
      getToken: () => (++count < 3 ? Promise.reject(new Error("server down")) : tokenOf(42)),
    });
    expect(count).toBe(3);
    expect(state(tab)).toBe("online");
  });

  test("are asked for again after an error of another client", async () => {
    let count = 0;
    await online(world, {
      getToken: () => (++count < 3 ? Promise.reject(new HuahuoError("busy", "later")) : tokenOf(42)),
    });
    expect(count).toBe(3);
  });

  test("that come too late leave a closed client stopped", async () => {
    let refuse: ((error: Error) => void) | undefined;
    const tab = world.tab({ getToken: () => new Promise((_, no) => (refuse = no)) });
    await until(() => expect(refuse).toBeDefined());
    tab.client.close();
    refuse?.(new Error("server down"));
    await new Promise(setImmediate);
    expect(state(tab)).toBe("stopped");
    expect(await refusal(tab.client.send("note"))).toBe("stopped");
  });

  test("that are about to expire are renewed on the same connection", async () => {
    let count = 0;
    await online(world, { getToken: () => tokenOf(42, { jti: `${++count}` }) });
    const { connection } = world;
    connection?.socket.deliver({ type: "token_expiring", in_s: 60 });
    await until(() => expect(world.said("authenticate")).toHaveLength(2));
    expect(world.said("authenticate")[1]).toEqual({ action: "authenticate", token: tokenOf(42, { jti: "2" }) });
    expect(world.connection).toBe(connection);
  });

  test("that live shortly are renewed twice in their life, not in a rush", async () => {
    let count = 0;
    await online(world, { getToken: () => tokenOf(42, { jti: `${++count}` }) });
    const warn = () => world.connection?.socket.deliver({ type: "token_expiring", in_s: 0.2 });
    warn();
    await until(() => expect(count).toBe(2));
    const since = performance.now();
    warn();
    await until(() => expect(count).toBe(3));
    expect(performance.now() - since).toBeGreaterThan(60);
  });

  test("of another user stop the client rather than mix two users' events", async () => {
    let user = 42;
    const tab = await online(world, { getToken: () => tokenOf(user) });
    user = 43;
    world.connection?.socket.end(4003);
    await until(() => expect(state(tab)).toBe("stopped"));
    expect(tab.client.state.value).toMatchObject({ error: { code: "misuse" } });
  });

  test("that name nobody are of the user that the server says", async () => {
    const whose = vi.fn(() => Promise.resolve("42"));
    const tab = await online(world, { token: "opaque", whose });
    expect(whose.mock.calls).toEqual([["ws://server.test/", "opaque"]]);
    expect(state(tab)).toBe("online");
    whose.mockClear();
    await online(world, { token: tokenOf(42), whose });
    expect(whose).not.toHaveBeenCalled();
  });

  test("that name nobody never join two users' tabs", async () => {
    const alice = world.tab({ token: "a", whose: () => Promise.resolve("42") });
    const bob = world.tab({ token: "b", whose: () => Promise.resolve("43") });
    await until(() => expect([alice.client.owner.value, bob.client.owner.value]).toEqual([true, true]));
  });

  test("that the server refuses at first never join two users' tabs", async () => {
    const names: Record<string, string> = { "good-alice": "42", "good-bob": "43" };
    const page = (name: string) => {
      let count = 0;
      return world.tab({ getToken: () => (count++ ? `good-${name}` : "old"), whose: (_, token) => Promise.resolve(names[token] ?? "") });
    };
    const alice = page("alice"), bob = page("bob");
    await until(() => expect([alice.client.owner.value, bob.client.owner.value]).toEqual([true, true]));
    expect(world.channels.size).toBe(2);
    expect(new Set([...world.channels].map(({ name }) => name)).size).toBe(2);
  });

  test("that the server never says whose they are share nothing with other tabs", async () => {
    const [alice, bob] = [1, 2].map(() => world.tab({ token: "old", whose: () => Promise.resolve("") }));
    await until(() => expect([alice?.client.owner.value, bob?.client.owner.value]).toEqual([true, true]));
    expect(world.channels.size).toBe(0);
  });

  test("that name nobody wait while the server cannot say whose they are", async () => {
    let count = 0;
    const whose = () => (++count < 3 ? Promise.reject(new Error("down")) : Promise.resolve("42"));
    await online(world, { token: "opaque", whose });
    expect(count).toBe(3);
  });

  test("that name nobody and are another user's after a while stop the client", async () => {
    const tab = await online(world, { token: "opaque", whose: () => Promise.resolve("42") });
    world.user = 43;
    world.connection?.socket.end(1006);
    await until(() => expect(state(tab)).toBe("stopped"));
    expect(tab.client.state.value).toMatchObject({ error: { code: "misuse" } });
  });

  test.each([undefined, null, 7, ""])("that are no text (%s) stop the client", async (given) => {
    const tab = world.tab({ getToken: () => given as unknown as string });
    await until(() => expect(state(tab)).toBe("stopped"));
    expect(tab.client.state.value).toMatchObject({ error: { code: "misuse" } });
  });

  test("that cannot be renewed end with the client", async () => {
    const tab = await online(world);
    world.connection?.socket.end(4003);
    await until(() => expect(tab.client.state.value).toMatchObject({ name: "stopped", error: { closeCode: 4003 } }));
  });
});

describe("the page", () => {
  test("put away leaves the connection, and brought back goes on", async () => {
    const tab = await online(world);
    const seen: number[] = [];
    await tab.client.subscribe(STREAM, { after: "head", onEvent: ({ seq }) => void seen.push(seq) }).ready;
    world.append(STREAM, 2);
    await until(() => expect(seen).toEqual([1, 2]));
    tab.happen("pagehide");
    expect(world.connection).toBeUndefined();
    world.append(STREAM, 2);
    const reply = tab.client.send("note");
    tab.happen("pageshow");
    await until(() => expect(seen).toEqual([1, 2, 3, 4]));
    expect((await reply).type).toBe("success");
  });

  test("seen again asks whether the connection lives", async () => {
    const tab = await online(world);
    tab.happen("visibilitychange");
    await until(() => expect(world.said("heartbeat")).toHaveLength(1));
  });

  test("with the network back connects without waiting", async () => {
    world.reachable = false;
    const tab = world.tab({ backoffMs: [1e6, 1e6], cursors: new MemoryCursors("me") });
    await until(() => expect(state(tab)).toBe("offline"));
    world.reachable = true;
    tab.happen("online");
    await until(() => expect(state(tab)).toBe("online"));
  });

  test("closed says so once and keeps nothing open", async () => {
    const tab = await online(world);
    const names: string[] = [];
    tab.client.state.subscribe(({ name }) => names.push(name));
    tab.client.close();
    tab.client.close();
    tab.happen("pageshow");
    await until(() => expect(world.connection).toBeUndefined());
    expect(names).toEqual(["stopped"]);
  });
});

test("texts for people come in the language that was asked for, also after a cut", async () => {
  const tab = await online(world, { language: "zh" });
  expect(world.said("authenticate")[0]?.["language"]).toBe("zh");
  const { connection } = world;
  tab.client.speak("en");
  await until(() => expect(world.said("authenticate")).toHaveLength(2));
  expect(world.said("authenticate")[1]).toMatchObject({ action: "authenticate", language: "en" });
  expect(world.connection).toBe(connection);
  tab.client.speak("en");
  world.cut();
  await until(() => expect(world.said("authenticate").at(-1)).toMatchObject({ language: "en", resume: {} }));
});

test("a server that does not speak the protocol stops the client", async () => {
  world.protocol = "";
  const tab = world.tab({ cursors: new MemoryCursors("me") });
  await until(() => expect(tab.client.state.value).toMatchObject({ name: "stopped", error: { closeCode: 4506 } }));
});

test("storage that is forbidden is replaced by memory, and said", async () => {
  const store = new MemoryCursors("me");
  store.identity = () => Promise.reject(new Error("forbidden"));
  const tab = world.tab({ cursors: store });
  const problems: string[] = [];
  tab.client.onStatus((status) => status.type === "problem" && problems.push(status.code));
  await until(() => expect(state(tab)).toBe("online"));
  expect(problems).toEqual(["storage_failed"]);
});

test("a listener that throws disturbs nobody", async () => {
  const reported = vi.spyOn(console, "error").mockImplementation(nothing);
  const tab = world.tab({ cursors: new MemoryCursors("me") });
  tab.client.state.subscribe(() => {
    throw new Error("mine");
  });
  await until(() => expect(state(tab)).toBe("online"));
  expect(reported).toHaveBeenCalled();
  reported.mockRestore();
});

describe("the id of the installation", () => {
  const named = () => world.said("authenticate")[0]?.["client"] as string;
  const page = async (options: Partial<ClientOptions> = {}): Promise<string> => {
    const tab = await online(world, { cursors: new IndexedDbCursors(), ...options });
    const id = named();
    tab.client.close();
    tab.kill();
    return id;
  };

  test("is said by every page, and kept for the next", async () => {
    const first = await page();
    expect(first).toMatch(/./);
    expect(await page()).toBe(first);
  });

  test("is another for each page that does not share, and is never empty", async () => {
    const shared = await page();
    const ids = [await page({ share: false }), await page({ share: false, client: "" })];
    for (const id of ids) expect(id.startsWith(shared)).toBe(true);
    expect(new Set([shared, ...ids]).size).toBe(3);
  });

  test("is the application's where it gives one", async () => {
    expect(await page({ client: "kiosk-7" })).toBe("kiosk-7");
  });
});
