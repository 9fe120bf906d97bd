import { expect, test } from "vitest";
import { Assembly, merge } from "../src/wire/parts.js";
import { Bench, LOG, STREAM } from "./support/bench.js";

const row = (id: number) => ({ id });
const part = (number: number, more: boolean) => (more ? { part: number, more } : { part: number });

function waiting(): Bench {
  const bench = new Bench().online().attach("r", "snapshot");
  bench.place("snapshot", 9);
  return bench;
}

test("objects merge by key, lists append, of anything else the later one counts", () => {
  const whole = {};
  merge(whole, { list: [1], in: { list: [1], a: 1 }, text: "x" });
  merge(whole, { list: [2, 3], in: { list: [2], b: 2 }, text: "y", more: null });
  expect(whole).toEqual({ list: [1, 2, 3], in: { list: [1, 2], a: 1, b: 2 }, text: "y", more: null });
});

test("a name that JavaScript knows is a name like any other", () => {
  const whole = {};
  for (let i = 0; i < 2; i++) merge(whole, JSON.parse('{"__proto__":{"polluted":true},"constructor":[1]}'));
  expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  expect(JSON.stringify(whole)).toBe('{"__proto__":{"polluted":true},"constructor":[1,1]}');
});

test("a list of any length can be appended", () => {
  const whole = { list: [0] };
  merge(whole, { list: new Array<number>(300_000).fill(1) });
  expect(whole.list).toHaveLength(300_001);
});

test("parts that are too large together are refused", () => {
  const assembly = new Assembly(10);
  assembly.add({}, 1, 6);
  expect(() => assembly.add({}, 2, 6)).toThrow("a part");
});

test("a state in parts is handed over once, whole, and events go on behind it", () => {
  const bench = waiting();
  bench.tell("snapshot", { stream: STREAM, seq: 9, ...part(1, true), state: { emails: [row(1)] } });
  expect(bench.session.take("r", bench.now)).toBeNull();
  bench.tell("snapshot", { stream: STREAM, seq: 9, ...part(2, false), state: { emails: [row(2)] } });
  bench.tell("events", { stream: STREAM, seq: 10, events: [{ type: "e" }] });
  const item = bench.session.take("r", bench.now);
  expect(item).toMatchObject({ kind: "snapshot", log: LOG, last: 9, state: { emails: [row(1), row(2)] } });
  bench.session.processed("r", bench.session.eraOf("r"), 9);
  expect(bench.session.take("r", bench.now)).toMatchObject({ kind: "batch", first: 10, last: 10 });
});

test("a first part begins anew", () => {
  const bench = waiting();
  bench.tell("snapshot", { stream: STREAM, seq: 9, ...part(1, true), state: { emails: [row(1)] } });
  bench.tell("snapshot", { stream: STREAM, seq: 12, ...part(1, true), state: { emails: [row(3)] } });
  bench.tell("snapshot", { stream: STREAM, seq: 12, ...part(2, false), state: { emails: [row(4)] } });
  expect(bench.session.take("r", bench.now)).toMatchObject({ last: 12, state: { emails: [row(3), row(4)] } });
});

test("a missing part breaks the protocol", () => {
  const bench = waiting();
  const late = { stream: STREAM, seq: 9, ...part(2, false), state: {} };
  expect(() => bench.tell("snapshot", late)).toThrow("a part");
});

test("after a cut the parts come again from the first on", () => {
  const bench = waiting();
  bench.tell("snapshot", { stream: STREAM, seq: 9, ...part(1, true), state: { emails: [row(1)] } });
  bench.session.closed(null, "", bench.now);
  bench.after(30_000).connect();
  bench.accept({ "user/42": { outcome: "fresh", after: 9, first: 1, head: 9 } });
  bench.place("snapshot", 9);
  bench.tell("snapshot", { stream: STREAM, seq: 9, state: { emails: [row(5)] } });
  expect(bench.session.take("r", bench.now)).toMatchObject({ state: { emails: [row(5)] } });
});

test("a reply in parts is one answer; parts that nobody waits for are dropped", () => {
  const bench = new Bench().online();
  bench.session.command("c1", '{"action":"get_all_emails","id":"c1"}');
  bench.said();
  bench.tell("emails_list", { id: "c0", ...part(1, true), data: [row(9)] });
  bench.tell("emails_list", { id: "c1", ...part(1, true), data: [row(1)], seq: 7 });
  bench.tell("emails_list", { id: "c1", ...part(2, false), data: [row(2)], seq: 7 });
  expect(bench.told("reply")).toEqual([
    { is: "reply", id: "c1", reply: { type: "emails_list", id: "c1", data: [row(1), row(2)], seq: 7 } },
  ]);
});
