import { describe, expect, it } from "vitest";
import { importEmails, type ImportOutcome, importPieces, type Sends } from "../src/client/importing.js";

class Service {
  readonly calls: [string, Record<string, unknown>][] = [];
  constructor(private readonly fail: { at: number; code: string } | null = null) {}
  readonly send = (async (action: string, fields: Record<string, unknown>) => {
    this.calls.push([action, fields]);
    if (this.calls.length === this.fail?.at) throw Object.assign(new Error("no"), { code: this.fail.code });
    if (action !== "import_emails") return { job_id: 7 };
    const lines = String(fields["data"]).split("\n").map((text, i) => ({ text, line: i + 1 })).filter(({ text }) => text.trim());
    const failed_details = lines.filter(({ text }) => text.includes("bad")).map(({ line }) => ({ line, reason: "no" }));
    return { total: lines.length, success: lines.length - failed_details.length, failed: failed_details.length, failed_details };
  }) as unknown as Sends["send"];
}

describe("importPieces", () => {
  it("keeps every line in some piece, and every piece below the bounds", () => {
    const lines = Array.from({ length: 1000 }, (_, i) => `m${i}@example.org----秘密${i}`);
    const { pieces, failures } = importPieces(lines.join("\n"), "long", 5000, 4000);
    expect(failures).toEqual([]);
    expect(pieces.flatMap(({ data }) => data.split("\n"))).toEqual(lines);
    for (const { data, line } of pieces) {
      expect(lines[line - 1]).toBe(data.split("\n")[0]);
      expect(new TextEncoder().encode(JSON.stringify(data)).length).toBeLessThan(4100);
    }
    expect(importPieces("\ufeffa\nb\r\nc\rd", "long", 2).pieces).toEqual([
      { data: "a\nb", line: 1, lines: 2 }, { data: "c\nd", line: 3, lines: 2 },
    ]);
  });
  it("begins each piece with the names of columns, which are not counted", () => {
    const text = ["email,password", ...Array.from({ length: 6 }, (_, i) => `m${i + 2}@x.com,p`)].join("\n");
    expect(importPieces(text, "long", 3).pieces.map(({ data, line, lines }) => [data.split("\n")[1], line, lines])).toEqual([
      ["m2@x.com,p", 1, 2], ["m4@x.com,p", 3, 2], ["m6@x.com,p", 5, 2],
    ]);
  });
  it.each(["，", "；", "｜", "————", " ---- ", "\t"])("knows names of columns between %j", (separator) => {
    const [names, ...lines] = ["email", "a@x.com", "b@x.com"].map((one) => `${one}${separator}password`);
    const { pieces } = importPieces([names, ...lines].join("\n"), "long", 2);
    expect(pieces.map(({ data }) => data)).toEqual(lines.map((line) => `${names}\n${line}`));
  });
  it("names a line that fits into no command and goes on", () => {
    const { pieces, failures } = importPieces(`a\n${"x".repeat(200)}\nb`, "too long", 10, 100);
    expect(failures).toEqual([{ line: 2, reason: "too long" }]);
    expect(pieces.map(({ data }) => data).join("\n")).toBe("a\n\nb");
  });
  it("makes nothing of blank lines", () => expect(importPieces("\n \n\t", "long").pieces).toEqual([]));
});

describe("importEmails", () => {
  it("imports 50,000 lines as one job, numbered as in the whole text", async () => {
    const service = new Service();
    const heard: [ImportOutcome, number][] = [];
    const text = Array.from({ length: 50_000 }, (_, i) => `m${i + 1}@x.com----${(i + 1) % 20_001 ? "ok" : "bad"}`).join("\n");
    const outcome = await importEmails(service, text, { mailType: "imap", onProgress: (now, lines) => heard.push([now, lines]) });
    expect(outcome).toEqual({
      job: 7, total: 50_000, success: 49_998, stopped: false,
      failures: [{ line: 20_001, reason: "no" }, { line: 40_002, reason: "no" }],
    });
    expect(heard.at(-1)?.[1]).toBe(50_000);
    expect(service.calls[0]).toEqual(["begin_import", { lines: 50_000 }]);
    expect(service.calls.at(-1)).toEqual(["end_import", { job_id: 7, stopped: false }]);
    expect(service.calls.every(([, fields]) => JSON.stringify(fields).length < 1024 * 1024)).toBe(true);
  });
  it("ends the job where it stops, and keeps what was done", async () => {
    const cancelled = new Service({ at: 3, code: "conflict" });
    const two = `a\n${"x".repeat(400_000)}\n${"y".repeat(400_000)}`;
    expect((await importEmails(cancelled, two)).stopped).toBe(true);
    expect(cancelled.calls.at(-1)).toEqual(["end_import", { job_id: 7, stopped: true }]);
    const broken = new Service({ at: 2, code: "unavailable" });
    await expect(importEmails(broken, "a")).rejects.toThrow("no");
    expect(broken.calls.at(-1)?.[0]).toBe("end_import");
  });
  it("stops when it is told to", async () => {
    const stop = new AbortController();
    stop.abort();
    expect((await importEmails(new Service(), "a", { signal: stop.signal })).stopped).toBe(true);
  });
  it("sends nothing for nothing", async () => {
    const service = new Service();
    expect((await importEmails(service, "\n")).total).toBe(0);
    expect(service.calls).toEqual([]);
  });
});
