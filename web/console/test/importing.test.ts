import { describe, expect, it } from "vitest";
import { add, nothing, pieces } from "../src/model/importing";

describe("pieces", () => {
  it("cuts at lines and knows where each piece began", () => {
    const { pieces: found } = pieces("a\nb\r\nc\rd", "long", 2);
    expect(found).toEqual([{ data: "a\nb", line: 1 }, { data: "c\nd", line: 3 }]);
  });
  it("keeps every line in some piece, and every piece below the bound", () => {
    const lines = Array.from({ length: 1000 }, (_, i) => `m${i}@example.org----秘密${i}`);
    const { pieces: found, failures } = pieces(lines.join("\n"), "long", 5000, 4000);
    expect(failures).toEqual([]);
    expect(found.flatMap(({ data }) => data.split("\n"))).toEqual(lines);
    for (const { data, line } of found) {
      expect(lines[line - 1]).toBe(data.split("\n")[0]);
      expect(new TextEncoder().encode(JSON.stringify(data)).length).toBeLessThan(4100);
    }
  });
  it("names a line that fits into no message and goes on", () => {
    const { pieces: found, failures } = pieces(`a\n${"x".repeat(200)}\nb`, "too long", 10, 100);
    expect(failures).toEqual([{ line: 2, reason: "too long" }]);
    expect(found.map(({ data }) => data).join("\n")).toBe("a\n\nb");
  });
  it("sends nothing for blank lines", () => expect(pieces("\n \n\t", "long").pieces).toEqual([]));
});

describe("add", () => {
  it("numbers failures as in the whole text", () => {
    const sum = nothing();
    add(sum, { data: "", line: 1 }, { total: 2, success: 2, failed: 0, failed_details: [] });
    add(sum, { data: "", line: 5001 }, { total: 3, success: 2, failed: 1, failed_details: [{ line: 2, reason: "no" }] });
    expect(sum).toEqual({ total: 5, success: 4, failed: 1, failures: [{ line: 5002, reason: "no" }] });
  });
});
