/** Readers of one stream on one connection: each sees every event behind its own place once, in order. */

import { describe, expect, test } from "vitest";
import { Bench, LOG, seqs, STREAM } from "./support/bench.js";
import { ModelConnection, ModelLog } from "./support/model.js";

const reading = (...cursors: number[]) => {
  const bench = new Bench();
  cursors.forEach((seq, index) => bench.attach(`r${index}`, "head", { log: LOG, seq }));
  bench.connect();
  return bench.accept({ [STREAM]: { outcome: "resumed", after: Math.min(...cursors), first: 1, head: 99 } });
};

describe("one reader", () => {
  test("drops what it knows and asks again for what is missing", () => {
    const bench = reading(0).events(1, 3).events(2, 4).events(7, 8);
    expect(bench.place("resumed", 4)).toMatchObject({ after: 4, log: LOG });
    bench.events(5, 8);
    expect(seqs(bench.process("r0"))).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  test("gets the stream and the seq of each event", () => {
    const [item] = reading(0).events(1, 1).process("r0");
    expect(item?.kind === "batch" && item.events[0]).toMatchObject({ stream: STREAM, seq: 1, n: 1 });
  });

  test("is told of a compacted range and goes on behind it", () => {
    const bench = reading(0).tell("skipped", { stream: STREAM, seq: 1, to: 5, reason: "compacted" }).events(6, 6);
    expect(bench.process("r0").map(({ kind, last }) => [kind, last])).toEqual([["skipped", 5], ["batch", 6]]);
  });

  test("gets a state before anything else after a gap", () => {
    const bench = new Bench().attach("a", "head", { log: LOG, seq: 2 });
    bench.connect();
    bench.accept({ [STREAM]: { outcome: "gap", after: 9, first: 6, head: 9 } });
    bench.tell("snapshot", { stream: STREAM, seq: 9, state: { x: 1 } }).events(10, 10);
    expect(bench.process("a")).toMatchObject([
      { kind: "snapshot", outcome: "gap", last: 9, state: { x: 1 } }, { kind: "batch", first: 10 },
    ]);
  });

  test("asks for the state again if the connection ends before it was handed over", () => {
    const bench = new Bench().attach("a", "snapshot").online();
    bench.place("snapshot", 9);
    bench.tell("snapshot", { stream: STREAM, seq: 9, state: {} });
    bench.session.closed(null, "", bench.now);
    expect(bench.connect()["resume"]).toEqual({ log: LOG, cursors: {} });
    bench.accept();
    expect(bench.said("subscribe")).toMatchObject([{ after: "snapshot" }]);
  });

  test("of another log gets a state, and then the new log's numbers", () => {
    const bench = new Bench().attach("a", "head", { log: "old", seq: 700 });
    bench.connect();
    bench.accept({ [STREAM]: { outcome: "reset", after: 3, first: 1, head: 3 } });
    bench.tell("snapshot", { stream: STREAM, seq: 3, state: {} }).events(4, 4);
    expect(bench.process("a")).toMatchObject([{ kind: "snapshot", outcome: "reset", log: LOG }, { first: 4, log: LOG }]);
  });

  test("is told that it may not read", () => {
    const bench = new Bench().attach("a", "head", null, "group/secret").online();
    bench.place("denied", 0, {});
    expect(bench.told("ended")).toMatchObject([{ reader: "a", error: { code: "stream_denied" } }]);
  });

  test("loses its stream when the right to it ends", () => {
    const bench = reading(0).tell("unsubscribed", { stream: STREAM, reason: "forbidden" });
    expect(bench.told("ended")).toMatchObject([{ error: { code: "stream_denied" } }]);
  });

  test("asks again when the server said, if it cannot be served now", () => {
    const bench = new Bench().attach("a", "snapshot").online();
    bench.place("snapshot", 9);
    bench.tell("unsubscribed", { stream: STREAM, reason: "busy", retry_s: 8.5 });
    expect(bench.told("ended")).toEqual([]);
    bench.after(8_000);
    expect(bench.said("subscribe")).toEqual([]);
    bench.after(1_000);
    expect(bench.said("subscribe")).toMatchObject([{ after: "snapshot" }]);
  });

  test("is refused a place that it did not ask for", () => {
    const bench = new Bench().attach("a", "head", { log: LOG, seq: 3 });
    bench.connect();
    expect(() => bench.accept({ [STREAM]: { outcome: "resumed", after: 5, first: 1, head: 9 } })).toThrowError(/somewhere else/);
  });
});

describe("several readers", () => {
  test("at different places each get what they lack", () => {
    const bench = reading(5, 2, 5).events(3, 4).events(5, 8);
    expect(seqs(bench.process("r0"))).toEqual([6, 7, 8]);
    expect(seqs(bench.process("r1"))).toEqual([3, 4, 5, 6, 7, 8]);
    expect(seqs(bench.process("r2"))).toEqual([6, 7, 8]);
  });

  test("lose nothing when one more wants a snapshot", () => {
    const bench = reading(0).events(1, 3).attach("new", "snapshot");
    expect(bench.place("snapshot", 6)).toMatchObject({ after: "snapshot" });
    bench.tell("snapshot", { stream: STREAM, seq: 6, state: {} });
    expect(bench.place("resumed", 3)).toMatchObject({ after: 3, log: LOG });
    bench.events(4, 8);
    expect(seqs(bench.process("r0"))).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    const items = bench.process("new");
    expect(items[0]).toMatchObject({ kind: "snapshot", last: 6 });
    expect(seqs(items)).toEqual([7, 8]);
  });

  test("one that wants the head begins where the others stand, without asking", () => {
    const bench = reading(0).events(1, 3).attach("new", "head");
    expect(bench.said("subscribe")).toEqual([]);
    bench.events(4, 5);
    expect(seqs(bench.process("new"))).toEqual([4, 5]);
  });

  test("only those get a state whose history is gone", () => {
    const bench = reading(90);
    bench.attach("old", "head", { log: LOG, seq: 10 });
    bench.place("gap", 95, { first: 50, head: 95 });
    bench.tell("snapshot", { stream: STREAM, seq: 95, state: {} });
    bench.place("resumed", 90, { first: 50 });
    bench.events(91, 96);
    expect(seqs(bench.process("r0"))).toEqual([91, 92, 93, 94, 95, 96]);
    const items = bench.process("old");
    expect(items[0]).toMatchObject({ kind: "snapshot", outcome: "gap", last: 95 });
    expect(seqs(items)).toEqual([96]);
  });

  test("leave the stream subscribed until the last one goes", () => {
    const bench = reading(0, 0);
    bench.session.detach("r0");
    expect(bench.said("unsubscribe")).toEqual([]);
    bench.attach("g", "head", null, "group/ops");
    bench.place("fresh", 0);
    bench.session.detach("g");
    expect(bench.said("unsubscribe")).toEqual([{ action: "unsubscribe", stream: "group/ops" }]);
  });
});

/** A random number generator that repeats: mulberry32. */
const chanceFrom = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};

/**
 * Readers come, go, are slow; the connection is cut at any moment, messages on their way are lost. What a
 * reader was given, with each state taken for the events in it, must be the log from its beginning.
 */
function play(seed: number): { given: number; cuts: number; states: number } {
  const chance = chanceFrom(seed);
  const pick = (below: number) => Math.floor(chance() * below);
  const log = new ModelLog();
  const bench = new Bench({ window: 6 });
  let connection = null as ModelConnection | null;
  let down: object[] = [];
  let cuts = 0, states = 0, given = 0, count = 0;
  const readers = new Map<string, { stream: string; next: number | null }>();
  const streams = ["user/42", "group/ops"];
  streams.forEach((name) => Array.from({ length: 5 }, () => log.append(name)));

  const up = () => bench.said().forEach((message) => down.push(...(connection?.take(JSON.stringify(message)) ?? [])));
  const process = (id: string) => {
    const reader = readers.get(id);
    const item = bench.session.take(id, bench.now);
    if (!reader || !item) return;
    if (item.kind === "batch") {
      expect(reader.next === null || item.first === reader.next, `seed ${seed}: ${id} at ${reader.next} got ${item.first}`).toBe(true);
      const numbers = log.numbers(reader.stream).slice(item.first - 1, item.last);
      expect(item.events.map((event) => (event as unknown as { n: number }).n)).toEqual(numbers);
      given += item.events.length;
    } else {
      states += 1;
    }
    reader.next = item.last + 1;
    bench.session.processed(id, bench.session.eraOf(id), item.last);
  };
  const step = (action: number) => {
    const [id] = [...readers.keys()].slice(pick(readers.size));
    const stream = streams[pick(2)] as string;
    if (action < 3) log.append(stream);
    else if (action < 9 && down.length > 0) bench.session.received(JSON.stringify(down.shift()), bench.now);
    else if (action < 12) down.push(...[connection?.step() ?? []].flat());
    else if (action < 15 && id) process(id);
    else if (action === 15 && readers.size < 4) {
      const at = pick(log.head(stream) + 1);
      const made = `r${++count}`;
      const start = (["head", "start", "snapshot"] as const)[pick(5)];
      readers.set(made, { stream, next: start === undefined ? at + 1 : start === "start" ? 1 : null });
      bench.attach(made, start ?? "head", start ? null : { log: log.id, seq: at }, stream);
    } else if (action === 16 && id && chance() < 0.3) {
      readers.delete(id);
      bench.session.detach(id);
    } else if (action === 17 && chance() < 0.4) {
      if (connection) {
        connection = null;
        down = [];
        cuts += 1;
        bench.session.closed(null, "", bench.now);
      }
    } else if (!connection) {
      connection = new ModelConnection(log, 42, 1 + pick(4));
      down = connection.take(JSON.stringify(bench.connect()));
    }
    bench.now += pick(120);
    if (bench.session.phase === "online" || bench.session.phase === "authenticating") bench.session.tick(bench.now);
    if (connection && !bench.session.dead) up();
  };
  for (let turn = 0; turn < 600; turn++) step(pick(20));
  // faults end: everybody arrives at the head
  for (let turn = 0; turn < 400; turn++) {
    step(19);
    if (down.length > 0) bench.session.received(JSON.stringify(down.shift()), bench.now);
    else down.push(...[connection?.step() ?? []].flat());
    readers.forEach((_, id) => process(id));
  }
  for (const [id, { stream, next }] of readers) {
    if (next !== null) expect(next, `seed ${seed}: ${id} stands`).toBe(log.head(stream) + 1);
  }
  return { given, cuts, states };
}

test("under any interleaving every reader gets the log from its place on", { timeout: 30_000 }, () => {
  const sums = { given: 0, cuts: 0, states: 0 };
  for (let seed = 1; seed <= 150; seed++) {
    const { given, cuts, states } = play(seed);
    sums.given += given;
    sums.cuts += cuts;
    sums.states += states;
  }
  // a run that met nothing proved nothing
  expect(sums.given).toBeGreaterThan(5_000);
  expect(sums.cuts).toBeGreaterThan(100);
  expect(sums.states).toBeGreaterThan(100);
});
