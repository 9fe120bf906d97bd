/** Checks: kept with the cursor that they belong to, stored with it, and sent when the client comes back. */

import { describe, expect, test } from "vitest";
import { MemoryCursors } from "../src/client/cursors.js";
import { Bench, LOG, seqs, STREAM } from "./support/bench.js";

const resumed = (after: number, head = 99) => ({ [STREAM]: { outcome: "resumed", after, first: 1, head } });
const reset = (after: number) => ({ [STREAM]: { outcome: "reset", after, first: 1, head: after } });
const live = (seq: number) => ({ stream: STREAM, seq, check: `c${seq}` });

function comeBack(bench: Bench): unknown {
  bench.session.closed(null, "lost", bench.now);
  return bench.connect()["resume"];
}

function reading(seq: number): Bench {
  const bench = new Bench().attach("a", "head", { log: LOG, seq });
  bench.connect();
  return bench.accept(resumed(seq));
}

describe("the session", () => {
  test("sends no checks where it has none", () => {
    expect(comeBack(reading(3))).toEqual({ log: LOG, cursors: { [STREAM]: 3 } });
  });

  test("sends the last check with the cursor, which may be further", () => {
    const bench = reading(0).events(1, 3);
    bench.process("a");
    bench.tell("live", live(3)).events(4, 5);
    bench.process("a");
    expect(comeBack(bench)).toEqual({ log: LOG, cursors: { [STREAM]: 5 }, checks: { [STREAM]: [3, "c3"] } });
  });

  test("tells the reader of a check where it stands", () => {
    const bench = reading(3).tell("live", live(3));
    expect(bench.told("checked")).toEqual([{ is: "checked", reader: "a", check: [3, "c3"] }]);
  });

  test("keeps a check back until the reader is there", () => {
    const bench = reading(0).events(1, 3).tell("live", live(3));
    expect(bench.told("checked")).toEqual([]);
    expect(bench.session.checkOf("a")).toBeUndefined();
    bench.process("a");
    expect(bench.session.checkOf("a")).toEqual([3, "c3"]);
  });

  test("never sends the check of a state that was not handed over", () => {
    const bench = reading(3).tell("live", live(3));
    comeBack(bench);
    bench.accept(reset(9)).tell("snapshot", { stream: STREAM, seq: 9, check: "new", state: {} });
    expect(comeBack(bench)).toEqual({ log: LOG, cursors: {} });
    bench.accept();
    expect(bench.said("subscribe")).toMatchObject([{ stream: STREAM, after: 3, log: "" }]);
  });

  test("hands the state to every reader when the events before them were replaced", () => {
    const bench = new Bench().attach("a", "head", { log: LOG, seq: 7, check: [5, "c5"] });
    bench.attach("b", "head", { log: LOG, seq: 3, check: [3, "c3"] });
    expect(bench.connect()["resume"]).toMatchObject({ cursors: { [STREAM]: 3 }, checks: { [STREAM]: [3, "c3"] } });
    bench.accept(reset(9)).tell("snapshot", { stream: STREAM, seq: 9, check: "new", state: {} }).events(10, 10);
    for (const reader of ["a", "b"]) {
      const items = bench.process(reader);
      expect(items[0]).toMatchObject({ kind: "snapshot", outcome: "reset", last: 9 });
      expect(seqs(items)).toEqual([10]);
      expect(bench.session.checkOf(reader)).toEqual([9, "new"]);
    }
  });

  test("never sends the check of another log with a place in this one", () => {
    const bench = new Bench().attach("a", "head", { log: "log-0", seq: 3, check: [3, "c3"] });
    bench.connect();
    bench.accept({ [STREAM]: { outcome: "reset", after: 5, first: 1, head: 5 } });
    bench.tell("snapshot", { stream: STREAM, seq: 5, check: "c5", state: {} }).events(7, 7); // 6 was lost
    expect(bench.said("subscribe")).toEqual([
      { action: "subscribe", id: "p-s1", stream: STREAM, after: 5, log: LOG },
    ]);
  });

  test("does not resume from a place beyond the head when the log has grown past it", () => {
    const bench = new Bench().attach("a", "head", { log: LOG, seq: 7, check: [3, "c3"] });
    bench.connect();
    bench.accept(reset(5)).tell("snapshot", { stream: STREAM, seq: 5, check: "c5", state: {} });
    expect(comeBack(bench)).toEqual({ log: LOG, cursors: {} });
    bench.accept();
    expect(bench.said("subscribe")).toMatchObject([{ stream: STREAM, after: 7, log: "" }]);
  });

  test("hands over no event that a reset has overtaken", () => {
    const bench = reading(3).events(4, 5);
    bench.attach("b", "head", { log: LOG, seq: 4, check: [4, "old"] });
    bench.place("reset", 9, { head: 9 });
    bench.tell("snapshot", { stream: STREAM, seq: 9, check: "new", state: {} });
    expect(bench.process("a")).toMatchObject([{ kind: "snapshot", outcome: "reset", last: 9 }]);
  });

  test("forgets the check before a snapshot that has none", () => {
    const bench = new Bench().attach("a", "head", { log: LOG, seq: 3, check: [3, "c3"] });
    bench.connect();
    bench.accept(reset(9)).tell("snapshot", { stream: STREAM, seq: 9, state: {} });
    bench.process("a");
    expect(comeBack(bench)).toEqual({ log: LOG, cursors: { [STREAM]: 9 } });
  });
});

describe("the store", () => {
  test("keeps a later check of the same place, and no place without one in its stead", async () => {
    const store = new MemoryCursors("me");
    await store.save("k", { log: LOG, seq: 3 });
    expect(await store.save("k", { log: LOG, seq: 3, check: [3, "c3"] })).toBe(true);
    expect(await store.save("k", { log: LOG, seq: 3 })).toBe(false);
    expect(await store.load("k")).toEqual({ log: LOG, seq: 3, check: [3, "c3"] });
  });
});
