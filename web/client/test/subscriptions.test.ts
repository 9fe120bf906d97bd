/** What an application may rely on: handlers and loops of a stream. */

import { beforeEach, describe, expect, test } from "vitest";
import type { HuahuoError } from "../src/index.js";
import { code, online, refusal, until } from "./support/claims.js";
import { World } from "./support/world.js";

const STREAM = "group/ops";
const nothing = () => undefined;

let world: World;
beforeEach(() => {
  world = new World();
});

describe("handlers", () => {
  test("get every event once and in order, over a cut", async () => {
    const tab = await online(world);
    const seen: number[] = [];
    const reading = tab.client.subscribe(STREAM, { onEvent: ({ seq }) => void seen.push(seq) });
    expect(await reading.ready).toBe("fresh");
    world.append(STREAM, 10);
    await until(() => expect(seen.length).toBeGreaterThan(3));
    world.cut();
    world.append(STREAM, 10);
    await until(() => expect(seen).toEqual(Array.from({ length: 20 }, (_, index) => index + 1)));
  });

  test("are called one after the other, never two at once", async () => {
    const tab = await online(world);
    let running = 0, most = 0, done = 0;
    const reading = tab.client.subscribe(STREAM, {
      async onBatch(events) {
        most = Math.max(most, ++running);
        await new Promise((resolve) => setTimeout(resolve, 1));
        running -= 1;
        done += events.length;
      },
    });
    await reading.ready;
    for (let n = 0; n < 5; n++) world.append(STREAM, 3);
    await until(() => expect(done).toBe(15));
    expect(most).toBe(1);
  });

  test("that throw end the subscription, and its place stays before the event", async () => {
    const tab = await online(world);
    const errors: HuahuoError[] = [];
    const cause = new Error("mine");
    const reading = tab.client.subscribe(STREAM, {
      onEvent: ({ seq }) => {
        if (seq === 3) throw cause;
      },
      onError: (error) => errors.push(error),
    });
    await reading.ready;
    world.append(STREAM, 4);
    await until(() => expect(errors.map(code)).toEqual(["handler_failed"]));
    expect(errors[0]?.cause).toBe(cause);
    const again: number[] = [];
    tab.client.subscribe(STREAM, { onEvent: ({ seq }) => void again.push(seq) });
    await until(() => expect(again).toEqual([3, 4]));
  });

  test("of two subscriptions to a stream are told apart", async () => {
    const tab = await online(world);
    const one: number[] = [], other: number[] = [];
    const first = tab.client.subscribe(STREAM, { after: "head", onEvent: ({ seq }) => void one.push(seq) });
    await first.ready;
    world.append(STREAM, 3);
    await until(() => expect(one).toEqual([1, 2, 3]));
    tab.client.subscribe(STREAM, { after: "start", onEvent: ({ seq }) => void other.push(seq) });
    await until(() => expect(other).toEqual([1, 2, 3]));
    world.append(STREAM, 2);
    await until(() => expect([one, other]).toEqual([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]]));
  });

  test("learn that their stream may not be read", async () => {
    const tab = await online(world);
    world.connection?.model.denied.add(STREAM);
    const reading = tab.client.subscribe(STREAM, { onEvent: nothing, onError: nothing });
    expect(await refusal(reading.ready)).toBe("stream_denied");
  });

  test("get a state and then what follows it", async () => {
    world.append(STREAM, 3);
    const tab = await online(world);
    const items: string[] = [];
    tab.client.subscribe(STREAM, {
      after: "snapshot",
      onSnapshot: ({ last, outcome }) => void items.push(`${outcome} ${last}`),
      onEvent: ({ seq }) => void items.push(`event ${seq}`),
    });
    await until(() => expect(items).toEqual(["snapshot 3"]));
    world.append(STREAM);
    await until(() => expect(items).toEqual(["snapshot 3", "event 4"]));
  });

  test("without onSnapshot are told of the one that they missed", async () => {
    const tab = await online(world);
    const problems: string[] = [];
    tab.client.onStatus((status) => status.type === "problem" && problems.push(status.code));
    await tab.client.subscribe(STREAM, { onEvent: nothing }).ready;
    world.append(STREAM, 5);
    await until(() => expect(world.said("ack").at(-1)?.["cursors"]).toMatchObject({ [STREAM]: 5 }));
    world.log.replace();
    world.cut();
    await until(() => expect(problems).toContain("snapshot_ignored"));
  });
});

describe("loops", () => {
  test("get events; one counts as processed when the next is asked for", async () => {
    const tab = await online(world);
    const loop = tab.client.events(STREAM);
    const first = loop.next();
    await until(() => expect(world.connection?.model.places.has(STREAM)).toBe(true));
    world.append(STREAM, 2);
    expect((await first).value).toMatchObject({ seq: 1 });
    expect((await loop.next()).value).toMatchObject({ seq: 2 });
    await loop.return();
    const again: number[] = [];
    tab.client.subscribe(STREAM, { onEvent: ({ seq }) => void again.push(seq) });
    await until(() => expect(again).toEqual([2]));
  });

  test("get runs and states", async () => {
    world.append(STREAM, 3);
    const tab = await online(world);
    for await (const item of tab.client.items(STREAM, { after: "snapshot" })) {
      expect(item).toMatchObject({ kind: "snapshot", last: 3 });
      break;
    }
    await until(() => expect(world.connection?.model.places.has(STREAM)).toBe(false));
  });

  test("throw what ended them", async () => {
    const tab = await online(world);
    world.connection?.model.denied.add(STREAM);
    expect(await refusal(tab.client.events(STREAM).next())).toBe("stream_denied");
  });

  test("end quietly when the client is closed", async () => {
    const tab = await online(world);
    const next = tab.client.events(STREAM).next();
    await until(() => expect(world.connection?.model.places.has(STREAM)).toBe(true));
    tab.client.close();
    expect(await next).toEqual({ value: undefined, done: true });
  });
});
