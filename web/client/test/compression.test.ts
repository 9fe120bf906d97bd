/** The client with a server that compresses: the same events in the same order, or the same without it. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type ClientOptions, MemoryCursors } from "../src/index.js";
import { Inflow } from "../src/wire/inflow.js";
import * as zstd from "../src/wire/zstd.js";
import { compressor, DICTIONARY, frame, PLACE, serve } from "./support/frames.js";
import { until } from "./support/claims.js";
import { type Tab, World, ZSTD } from "./support/world.js";

const STREAM = "group/ops";
const BOTH = [ZSTD, "huahuo.v1"];
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index + 1);
const decoder = () => Promise.resolve(zstd);

let world: World;
beforeEach(async () => {
  world = new World();
  world.protocol = ZSTD;
  world.log.dictionary = PLACE;
  serve({ [`http://server.test${PLACE.url}`]: DICTIONARY });
  world.compress = await compressor();
});
afterEach(() => vi.unstubAllGlobals());

/** A tab that reads, and what it has seen. */
async function reading(options: Partial<ClientOptions> = {}): Promise<{ tab: Tab; seen: number[] }> {
  const tab = world.tab({ cursors: new MemoryCursors("me"), decoder, ...options });
  const seen: number[] = [];
  await tab.client.subscribe(STREAM, { onEvent: ({ seq }) => void seen.push(seq) }).ready;
  return { tab, seen };
}

test("without a decoder compression is not offered", async () => {
  const { seen } = await reading({ decoder: undefined } as object);
  world.append(STREAM, 3);
  await until(() => expect(seen).toEqual(upTo(3)));
  expect(world.offers).toEqual([["huahuo.v1"]]);
});

test("the decoder is loaded with the first compressed message, and once", async () => {
  const load = vi.fn(decoder);
  const { seen } = await reading({ decoder: load });
  expect(load).not.toHaveBeenCalled();
  world.append(STREAM, 20);
  await until(() => expect(seen).toEqual(upTo(20)));
  expect(load).toHaveBeenCalledTimes(1);
  expect(world.offers).toEqual([BOTH]);
});

test("what the client sends stays text", async () => {
  const { tab } = await reading();
  world.append(STREAM, 5);
  await tab.client.send("get_all_emails"); // (the model reads every message as JSON)
  expect(world.said("authenticate")).toHaveLength(1);
});

test("a text behind compressed messages waits with them for the decoder", async () => {
  let go!: () => void;
  const slow = new Promise<void>((resolve) => (go = resolve));
  const { tab, seen } = await reading({ decoder: () => slow.then(decoder) });
  world.append(STREAM, 9);
  let replied = false;
  const reply = tab.client.send("check_emails", { email_ids: [1] }).then(() => {
    replied = true;
    expect(seen.length).toBeGreaterThan(0);
  });
  await until(() => expect(world.connection?.model.commands).toHaveLength(1));
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect([replied, seen]).toEqual([false, []]);
  go();
  await reply;
});

test("tabs that share a connection all see what its owner unpacked", async () => {
  const first = await reading({ cursors: new MemoryCursors("me") });
  const second = await reading({ cursors: new MemoryCursors("me") });
  world.append(STREAM, 30);
  await until(() => expect([first.seen, second.seen]).toEqual([upTo(30), upTo(30)]));
  expect(world.offers).toEqual([BOTH]);
  first.tab.kill();
  world.append(STREAM, 10);
  await until(() => expect(second.seen).toEqual(upTo(40)));
  expect(world.offers).toEqual([BOTH, BOTH]);
});

describe("without compression the client comes back, and misses nothing,", () => {
  const problems: string[] = [];
  const goesOnPlain = async (options: Partial<ClientOptions> = {}) => {
    const { tab, seen } = await reading(options);
    tab.client.onStatus((status) => status.type === "problem" && problems.push(status.message));
    world.append(STREAM, 10);
    await until(() => expect(seen).toEqual(upTo(10)));
    world.cut();
    world.append(STREAM, 5);
    await until(() => expect(seen).toEqual(upTo(15)));
    expect(world.offers).toEqual([BOTH, ["huahuo.v1"], ["huahuo.v1"]]);
    return problems.splice(0).join();
  };

  test("after a damaged message", async () => {
    world.compress = () => frame("one").slice(0, -2).buffer;
    expect(await goesOnPlain()).toContain("a compressed message cannot be read: not exactly one zstd frame");
  });

  test("after a bomb", async () => {
    world.compress = () => frame("bomb").buffer;
    expect(await goesOnPlain()).toContain("larger than");
  });

  test("after a compressed message that is no message", async () => {
    const compress = await compressor();
    world.compress = () => compress("[1,2");
    expect(await goesOnPlain()).toContain("cannot be read");
  });

  test("where the decoder cannot be loaded", async () => {
    expect(await goesOnPlain({ decoder: () => Promise.reject(new Error("no such file")) })).toContain("no such file");
  });

  test("where the dictionary's address leads to another host", async () => {
    world.log.dictionary = { id: PLACE.id + 7, url: "//other.test/dictionary" };
    expect(await goesOnPlain()).toContain("not a path on the server");
  });
});

test("a binary message without compression is a violation of the protocol", async () => {
  world.protocol = "huahuo.v1";
  const { tab, seen } = await reading();
  const problems: string[] = [];
  tab.client.onStatus((status) => status.type === "problem" && problems.push(status.message));
  world.connection?.socket.onmessage?.({ data: frame("one").buffer });
  world.append(STREAM, 3);
  await until(() => expect(seen).toEqual(upTo(3)));
  expect(problems).toEqual(["the server sent a binary message"]);
});

describe("what waits for the decoder", () => {
  test("comes in its order, and so does what follows", async () => {
    const taken: string[] = [];
    const decode = (data: ArrayBuffer) => `b${data.byteLength}`;
    const inflow = new Inflow(() => Promise.resolve(decode), (text) => void taken.push(text), vi.fn());
    inflow.received("t0");
    inflow.received(new ArrayBuffer(1));
    inflow.received("t2");
    inflow.received(new ArrayBuffer(3));
    expect(taken).toEqual(["t0"]);
    await until(() => expect(taken).toEqual(["t0", "b1", "t2", "b3"]));
    inflow.received(new ArrayBuffer(4));
    inflow.received("t5");
    expect(taken.slice(4)).toEqual(["b4", "t5"]);
  });

  afterEach(() => void vi.useRealTimers());
  const never = () => new Promise<never>(() => undefined);

  test("is bounded", () => {
    const failed = vi.fn();
    const inflow = new Inflow(never, vi.fn(), failed);
    for (let n = 0; n < 34; n++) inflow.received(n % 2 ? "x".repeat(1 << 20) : new ArrayBuffer(1 << 20));
    expect(failed).toHaveBeenCalledExactlyOnceWith(expect.objectContaining({ message: "too much waits for the decoder" }), true);
  });

  test("waits 15 s at most", async () => {
    vi.useFakeTimers();
    const failed = vi.fn();
    new Inflow(never, vi.fn(), failed).received(new ArrayBuffer(1));
    await vi.advanceTimersByTimeAsync(14_999);
    expect(failed).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(1);
    expect(failed).toHaveBeenCalledOnce();
  });
});
