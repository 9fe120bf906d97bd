/** The session: its life, liveness, acks and commands, in a time that the test makes. */

import { describe, expect, test } from "vitest";
import { Bench, LOG, seqs, STREAM } from "./support/bench.js";

describe("authentication", () => {
  test("names the installation, the window and nowhere to go on from", () => {
    expect(new Bench().connect()).toEqual({
      action: "authenticate", token: "jwt", client: "dev-1", window: 8, parts: true, resume: { log: null, cursors: {} },
    });
  });

  test("names the places of readers that have one", () => {
    const bench = new Bench().attach("a", "head", { log: LOG, seq: 7 }).attach("b", "head", null, "system");
    expect(bench.connect()["resume"]).toEqual({ log: LOG, cursors: { [STREAM]: 7 } });
  });

  test("names the place of the reader that is furthest behind", () => {
    const bench = new Bench().attach("a", "head", { log: LOG, seq: 7 }).attach("b", "head", { log: LOG, seq: 3 });
    expect(bench.connect()["resume"]).toEqual({ log: LOG, cursors: { [STREAM]: 3 } });
  });

  test("refused as expired asks for a new token, after the back-off", () => {
    const bench = new Bench();
    bench.connect();
    bench.tell("authentication_result", { success: false, code: "token_expired", message: "no" });
    bench.session.closed(4003, "", bench.now);
    expect(bench.session.needsToken).toBe(true);
    expect(bench.told("state").at(-1)?.state).toMatchObject({ name: "offline", retryMs: 250 });
  });

  test.each([["token_invalid", 4500], ["token_revoked", 4503]])("refused as %s is the end", (code, close) => {
    const bench = new Bench();
    bench.connect();
    bench.tell("authentication_result", { success: false, code, message: "no" });
    bench.session.closed(null, "", bench.now); // the code of the close got lost
    expect(bench.told("state").at(-1)?.state).toMatchObject({ name: "stopped", error: { closeCode: close } });
  });

  test("is repeated in place for a new token, and moves nothing", () => {
    const bench = new Bench().attach("a", "head", { log: LOG, seq: 3 });
    bench.connect();
    bench.accept({ [STREAM]: { outcome: "resumed", after: 3, first: 1, head: 9 } }).events(4, 5);
    bench.session.authenticateAgain("other");
    expect(bench.said()).toEqual([{ action: "authenticate", token: "other" }]);
    bench.accept({ [STREAM]: { outcome: "resumed", after: 5, first: 1, head: 9 } }).events(6, 6);
    expect(seqs(bench.process("a"))).toEqual([4, 5, 6]);
  });
});

describe("a connection that is dead", () => {
  test("is asked after a silence of one heartbeat, and given up without an answer", () => {
    const bench = new Bench().online();
    bench.said();
    expect(bench.after(29_000).said("heartbeat")).toEqual([]);
    expect(bench.after(1_000).said("heartbeat")).toHaveLength(1);
    bench.after(9_900);
    expect(bench.session.dead).toBe(false);
    bench.after(100);
    expect(bench.session.dead).toBe(true);
  });

  test("is kept when anything at all is heard", () => {
    const bench = new Bench().online().after(30_000);
    bench.said();
    bench.tell("live", { stream: STREAM, seq: 0 }).after(10_000);
    expect(bench.session.dead).toBe(false);
  });

  test("is given up four seconds after a probe", () => {
    const bench = new Bench().online();
    bench.session.probe(bench.now);
    expect(bench.said("heartbeat")).toHaveLength(1);
    bench.after(4_000);
    expect(bench.session.dead).toBe(true);
  });

  test("is not assumed because a timer was late: it is asked once more", () => {
    const bench = new Bench().online();
    bench.session.probe(bench.now);
    bench.said();
    bench.after(60_000); // the page was in the background, or the machine asleep
    expect(bench.session.dead).toBe(false);
    expect(bench.said("heartbeat")).toHaveLength(1);
    bench.after(4_000);
    expect(bench.session.dead).toBe(true);
  });

  test("is given up when the server said goaway and does not close", () => {
    const bench = new Bench().online().tell("goaway", { code: 4000, reason: "restart", retry_s: [0.5, 15] });
    bench.tell("live", { stream: STREAM, seq: 0 }).after(10_000);
    expect(bench.session.dead).toBe(true);
  });

  test("is given up when authentication is not answered in 20 s", () => {
    const bench = new Bench();
    bench.connect();
    bench.after(20_000);
    expect(bench.session.dead).toBe(true);
  });
});

describe("coming back", () => {
  test("follows the goaway though the close code got lost", () => {
    const bench = new Bench().online().tell("goaway", { code: 4009, reason: "newer" });
    bench.session.closed(null, "", bench.now);
    expect(bench.told("state").at(-1)?.state).toMatchObject({ name: "stopped", error: { closeCode: 4009 } });
  });

  test("spreads over the span that the goaway names", () => {
    const bench = new Bench().online().tell("goaway", { code: 4000, reason: "restart", retry_s: [0.5, 15] });
    bench.session.closed(4000, "", bench.now);
    expect(bench.told("state").at(-1)?.state).toMatchObject({ retryMs: 7_750 });
  });

  test("goes on where the reader stood, without what it had not been handed", () => {
    const bench = new Bench().attach("a", "head", { log: LOG, seq: 0 });
    bench.connect();
    bench.accept({ [STREAM]: { outcome: "resumed", after: 0, first: 1, head: 9 } }).events(1, 2).events(3, 4);
    bench.session.take("a", bench.now); // the application works on 1 and 2
    bench.session.closed(null, "", bench.now);
    expect(bench.connect()["resume"]).toEqual({ log: LOG, cursors: { [STREAM]: 2 } });
  });

  test("goes on though nothing was received yet", () => {
    const bench = new Bench().attach("a");
    bench.connect();
    bench.accept({ [STREAM]: { outcome: "fresh", after: 5, first: 1, head: 5 } });
    bench.session.closed(null, "", bench.now);
    expect(bench.connect()["resume"]).toEqual({ log: LOG, cursors: { [STREAM]: 5 } });
  });

  test("is over for a stopped session, whatever is called", () => {
    const bench = new Bench().online().tell("goaway", { code: 4503, reason: "revoked" });
    bench.session.closed(4503, "", bench.now);
    bench.told("state");
    bench.session.closed(1006, "", bench.now);
    expect(bench.told("state")).toEqual([]);
  });
});

describe("acks", () => {
  const reading = (window = 8) => {
    const bench = new Bench({ window }).attach("a", "head", { log: LOG, seq: 0 });
    bench.connect();
    bench.accept({ [STREAM]: { outcome: "resumed", after: 0, first: 1, head: 99 } });
    bench.after(250).said();
    return bench;
  };

  test("say what was processed, not what was received, 250 ms later", () => {
    const bench = reading().events(1, 2).events(3, 3);
    bench.session.take("a", bench.now);
    bench.session.processed("a", 0, 2);
    expect(bench.said("ack")).toEqual([]);
    bench.now += 250;
    expect(bench.said("ack")).toEqual([{ action: "ack", cursors: { [STREAM]: 2 } }]);
  });

  test("leave before the stream is left", () => {
    const bench = reading().attach("b", "head", { log: LOG, seq: 0 }, "group/ops");
    bench.place("resumed", 0);
    bench.events(1, 2, "group/ops").events(3, 3, "group/ops");
    bench.session.take("b", bench.now);
    bench.session.processed("b", 0, 2);
    bench.session.detach("b");
    expect(bench.said()).toEqual([
      { action: "ack", cursors: { "group/ops": 2 } }, { action: "unsubscribe", stream: "group/ops" },
    ]);
  });

  test("leave at once at half a window", () => {
    const bench = reading().events(1, 4);
    bench.process("a");
    expect(bench.said("ack")).toEqual([{ action: "ack", cursors: { [STREAM]: 4 } }]);
  });

  test("wait for the slowest reader of a stream", () => {
    const bench = reading().attach("b", "head", { log: LOG, seq: 0 }).events(1, 4);
    bench.process("a");
    bench.now += 250;
    expect(bench.said("ack")).toEqual([]);
    bench.process("b");
    expect(bench.said("ack")).toEqual([{ action: "ack", cursors: { [STREAM]: 4 } }]);
  });

  test("cover streams that nobody here reads", () => {
    const bench = new Bench().online().accept();
    bench.session.closed(null, "", bench.now);
    bench.connect();
    bench.accept({ system: { outcome: "fresh", after: 3, first: 1, head: 3 } }).events(4, 5, "system");
    bench.said();
    bench.now += 250;
    expect(bench.said("ack")).toEqual([{ action: "ack", cursors: { system: 5 } }]);
  });

  test("never name what a place further back has not sent again", () => {
    const bench = reading().events(1, 8);
    bench.process("a");
    bench.said();
    bench.attach("b", "head", { log: LOG, seq: 2 });
    bench.place("resumed", 2);
    bench.events(3, 4);
    bench.process("b");
    bench.said();
    bench.now += 250;
    expect(bench.said("ack")).toEqual([{ action: "ack", cursors: { [STREAM]: 4 } }]);
  });
});

describe("a reader that is too slow", () => {
  test("is put aside after 20 s, and its stream is left rather than acked", () => {
    const bench = new Bench().attach("a", "head", { log: LOG, seq: 0 });
    bench.connect();
    bench.accept({ [STREAM]: { outcome: "resumed", after: 0, first: 1, head: 99 } }).events(1, 2);
    bench.session.take("a", bench.now);
    bench.said();
    bench.after(20_000);
    expect(bench.told("lost")).toEqual([{ is: "lost", reader: "a" }]);
    expect(bench.said()).toEqual([{ action: "unsubscribe", stream: STREAM }]);
  });

  test("does not hold up another one of the same stream", () => {
    const bench = new Bench().attach("a", "head", { log: LOG, seq: 0 }).attach("b", "head", { log: LOG, seq: 0 });
    bench.connect();
    bench.accept({ [STREAM]: { outcome: "resumed", after: 0, first: 1, head: 99 } }).events(1, 4);
    bench.session.take("a", bench.now);
    bench.process("b");
    bench.after(20_000);
    expect(bench.said("ack")).toEqual([{ action: "ack", cursors: { [STREAM]: 4 } }]);
  });

  test("is told so when it comes back, and attaches where it stands", () => {
    const bench = new Bench().attach("a", "head", { log: LOG, seq: 0 });
    bench.connect();
    bench.accept({ [STREAM]: { outcome: "resumed", after: 0, first: 1, head: 99 } }).events(1, 2);
    bench.session.take("a", bench.now);
    bench.after(20_000).told("lost");
    bench.session.processed("a", 0, 2);
    expect(bench.told("lost")).toHaveLength(1);
    bench.attach("a", "head", { log: LOG, seq: 2 });
    expect(bench.place("resumed", 2)).toMatchObject({ after: 2, log: LOG });
  });
});

describe("commands", () => {
  test("wait while offline and leave in their order", () => {
    const bench = new Bench();
    for (const id of ["c1", "c2"]) bench.session.command(id, JSON.stringify({ action: "note", id }));
    bench.connect();
    expect(bench.said()).toEqual([]);
    bench.accept();
    expect(bench.said().map(({ id }) => id)).toEqual(["c1", "c2"]);
  });

  test("leave again after a reconnect unless they were answered", () => {
    const bench = new Bench().online();
    for (const id of ["c1", "c2"]) bench.session.command(id, JSON.stringify({ action: "note", id }));
    bench.said();
    bench.tell("success", { id: "c1" });
    bench.session.closed(null, "", bench.now);
    bench.online();
    expect(bench.said("note").map(({ id }) => id)).toEqual(["c2"]);
  });

  test("are answered once, with the reply or the refusal", () => {
    const bench = new Bench().online();
    for (const id of ["c1", "c2"]) bench.session.command(id, JSON.stringify({ action: "note", id }));
    bench.said();
    bench.tell("success", { id: "c1", n: 1 }).tell("success", { id: "c1", n: 1 });
    bench.tell("error", { id: "c2", code: "not_found", message: "none", details: "d" });
    expect(bench.told("reply")).toMatchObject([
      { id: "c1", reply: { n: 1 } }, { id: "c2", reply: { code: "not_found", message: "none", details: "d" } },
    ]);
  });

  test.each(["unavailable", "rate_limited"])("are sent again with the same id after `%s`", (code) => {
    const bench = new Bench().online();
    bench.session.command("c1", '{"action":"note","id":"c1"}');
    bench.said();
    bench.tell("error", { id: "c1", code, message: "" });
    expect(bench.told("reply")).toEqual([]);
    bench.now += 20_000;
    expect(bench.said("note")).toHaveLength(1);
  });

  test("leave at a pace that the server allows", () => {
    const bench = new Bench({ messagesPerS: 10 }).online();
    for (let n = 0; n < 50; n++) bench.session.command(`c${n}`, JSON.stringify({ action: "note", id: `c${n}` }));
    expect(bench.said("note")).toHaveLength(20);
    bench.now += 1_000;
    expect(bench.said("note")).toHaveLength(10);
  });

  test("that nobody waits for are not sent again", () => {
    const bench = new Bench().online();
    bench.session.command("c1", '{"action":"note","id":"c1"}');
    bench.said();
    bench.session.forget("c1");
    bench.session.closed(null, "", bench.now);
    bench.online();
    expect(bench.said("note")).toEqual([]);
  });
});

describe("a server that breaks the protocol", () => {
  test.each([
    ["no JSON", "{"], ["no object", "[]"], ["null", "null"], ["no type", "{}"],
    ["a seq that is a text", '{"type":"events","stream":"s","seq":"1","events":[]}'],
    ["events that are no list", '{"type":"events","stream":"s","seq":1,"events":{}}'],
  ])("is recognised by %s", (_, text) => {
    const bench = new Bench().online();
    expect(() => bench.session.received(text, bench.now)).toThrowError(expect.objectContaining({ code: "protocol_violation" }));
  });

  test("is recognised by a window that it ignores", () => {
    const bench = new Bench({ window: 4 }).attach("a", "head", { log: LOG, seq: 0 });
    bench.connect();
    bench.accept({ [STREAM]: { outcome: "resumed", after: 0, first: 1, head: 99 } });
    expect(() => bench.events(1, 9)).toThrowError(/window/);
  });

  test("is not recognised by what a newer server may add", () => {
    const bench = new Bench().online().tell("something_new", { x: 1 });
    expect(bench.told("state").at(-1)?.state.name).toBe("online");
  });
});
