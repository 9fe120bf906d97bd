import { describe, expect, it } from "vitest";
import type { Row } from "../src/model/mailboxes";
import { arrange, type Arrangement, chunks, labelsOf } from "../src/model/table";

const base = { user_id: 1, server: "imap.example.org", port: 993, use_ssl: true, progress: 0, message: "", created_at: "", watched: false };
const rows: Row[] = [
  { ...base, id: 1, email: "zoe@b.example", mail_type: "imap", status: "ok", mail_count: 5, last_check_time: "2026-11-24T10:00:00Z" },
  { ...base, id: 2, email: "Adam@a.example", mail_type: "qq", status: "error", mail_count: 0, last_check_time: null },
  { ...base, id: 3, email: "eve@a.example", mail_type: "imap", status: "need_reauth", mail_count: 9, last_check_time: "2026-11-24T11:00:00Z" },
];
const by: Arrangement = { query: "", status: "all", tag: null, group: null, sort: "email", descending: false };
const ids = (more: Partial<Arrangement>): number[] => arrange(rows, { ...by, ...more }).map(({ id }) => id);

describe("arrange", () => {
  it("finds rows that hold every word, in any case", () => {
    expect(ids({ query: "A.EXAMPLE qq" })).toEqual([2]);
    expect(ids({ query: "nobody" })).toEqual([]);
  });
  it("narrows to one status", () => expect(ids({ status: "error" })).toEqual([2]));
  it("puts what needs a look first", () => expect(ids({ sort: "status" })).toEqual([3, 2, 1]));
  it("sorts both ways", () => {
    expect(ids({ sort: "mail_count" })).toEqual([2, 1, 3]);
    expect(ids({ sort: "mail_count", descending: true })).toEqual([3, 1, 2]);
    expect(ids({ sort: "last_check_time" })).toEqual([2, 1, 3]);
  });
});

describe("labels", () => {
  const labelled: Row[] = rows.map((row) => row.id === 1 ? { ...row, tags: ["shop", "工作"], group: "ops", note: "second account" } : row);
  const found = (more: Partial<Arrangement>): number[] => arrange(labelled, { ...by, ...more }).map(({ id }) => id);
  it("narrow to a tag, a group, or none", () => {
    expect(found({ tag: "工作" })).toEqual([1]);
    expect(found({ tag: "" })).toEqual([2, 3]);
    expect(found({ group: "ops" })).toEqual([1]);
    expect(found({ group: "" })).toEqual([2, 3]);
    expect(found({ query: "second" })).toEqual([1]);
  });
  it("are listed in order, each once", () => expect(labelsOf([...labelled, ...labelled])).toEqual({ tags: ["shop", "工作"], groups: ["ops"] }));
});

describe("chunks", () => {
  it("cuts long lists at what the server takes", () => {
    const parts = chunks(Array.from({ length: 2500 }, (_, i) => i));
    expect(parts.map((part) => part.length)).toEqual([1000, 1000, 500]);
    expect(parts.flat()).toHaveLength(2500);
  });
  it("has no part for nothing", () => expect(chunks([])).toEqual([]));
});
