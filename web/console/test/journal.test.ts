import { describe, expect, it } from "vitest";
import { asLines, Journal } from "../src/model/journal";

const fact = (type: string, fields: object = {}) => ({ type, timestamp: "2026-11-24T10:31:07.114Z", ...fields });

describe("Journal", () => {
  it("gives each event its seq and keeps their order", () => {
    const journal = new Journal();
    journal.add("user/42", 7, [fact("a"), fact("b")]);
    expect(journal.find("").map(({ seq, fact: { type } }) => [seq, type])).toEqual([[7, "a"], [8, "b"]]);
  });
  it("keeps the newest and counts all", () => {
    const journal = new Journal(10);
    for (let seq = 1; seq <= 100; seq += 1) journal.add("s", seq, [fact("a")]);
    expect(journal.find("").map(({ seq }) => seq)).toEqual([91, 92, 93, 94, 95, 96, 97, 98, 99, 100]);
    expect(journal.entries.length).toBeLessThanOrEqual(20);
    expect(journal.total).toBe(100);
  });
  it("finds by stream, seq and anything an event says", () => {
    const journal = new Journal();
    journal.add("user/42", 1, [fact("check_progress", { message: "正在检查邮件" }), fact("mail_received", { subject: "Hello" })]);
    expect(journal.find("hello user/42")).toHaveLength(1);
    expect(journal.find("检查")).toHaveLength(1);
    expect(journal.find("progress hello")).toHaveLength(0);
  });
});

describe("asLines", () => {
  it("copies events as JSON lines, without what only the panel says", () => {
    const journal = new Journal();
    journal.mark("user/42", 6, fact("resumed"));
    journal.add("user/42", 7, [fact("a", { x: 1 })]);
    const lines = asLines(journal.find("")).split("\n");
    expect(lines.map((line) => JSON.parse(line))).toEqual([{ ...fact("a", { x: 1 }), stream: "user/42", seq: 7 }]);
  });
});
