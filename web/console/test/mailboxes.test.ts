import { describe, expect, it } from "vitest";
import { type Fact, isBusy, Mailboxes, type Row } from "../src/model/mailboxes";

const at = "2026-11-24T10:31:07.114Z";
const fact = (type: string, fields: object): Fact => ({ type, timestamp: at, ...fields });
const row = (id: number, more: Partial<Row> = {}): Row => ({
  id, user_id: 42, email: `m${id}@example.org`, mail_type: "imap", server: "imap.example.org", port: 993, use_ssl: true,
  status: "idle", progress: 0, message: "", last_check_time: null, mail_count: 0, created_at: at, watched: false, ...more,
});

function holding(...rows: Row[]): Mailboxes {
  const mailboxes = new Mailboxes(42);
  mailboxes.load(rows);
  return mailboxes;
}

describe("Mailboxes", () => {
  it("adds a row as the server's fold does", () => {
    const mailboxes = holding();
    mailboxes.apply(fact("email_added", { email_id: 7, email: "m7@example.org", mail_type: "imap", server: "imap.example.org", port: 993, use_ssl: true }));
    expect(mailboxes.rows.get(7)).toEqual(row(7));
  });

  it("has labels and the class of a failure while they have a value", () => {
    const mailboxes = holding(row(1));
    mailboxes.apply(fact("email_updated", { email_id: 1, tags: ["shop"], note: "n", group: "g" }));
    mailboxes.apply(fact("email_status_update", { email_id: 1, status: "error", message: "x", check_id: 1, error_class: "tls" }));
    expect(mailboxes.rows.get(1)).toEqual(row(1, { tags: ["shop"], note: "n", group: "g", status: "error", message: "x", error_class: "tls" }));
    mailboxes.apply(fact("email_updated", { email_id: 1, tags: [], note: "", group: "" }));
    mailboxes.apply(fact("email_status_update", { email_id: 1, status: "queued", message: "", check_id: 2 }));
    expect(mailboxes.rows.get(1)).toEqual(row(1, { status: "queued" }));
  });

  it("moves the time of the last check only with a success", () => {
    const mailboxes = holding(row(1));
    mailboxes.apply(fact("email_status_update", { email_id: 1, status: "error", message: "no", check_id: 3 }));
    expect(mailboxes.rows.get(1)).toMatchObject({ status: "error", message: "no", last_check_time: null });
    mailboxes.apply(fact("email_status_update", { email_id: 1, status: "ok", message: "", check_id: 4 }));
    expect(mailboxes.rows.get(1)?.last_check_time).toBe(at);
  });

  it("counts the rows in a check through every way out of it", () => {
    const mailboxes = holding(row(1, { status: "queued" }), row(2));
    expect(mailboxes.busy).toBe(1);
    mailboxes.apply(fact("email_status_update", { email_id: 2, status: "processing", message: "", check_id: 1 }));
    expect(mailboxes.busy).toBe(2);
    mailboxes.apply(fact("email_status_update", { email_id: 2, status: "cancelled", message: "", check_id: 1 }));
    mailboxes.apply(fact("email_deleted", { email_id: 1 }));
    expect(mailboxes.busy).toBe(0);
    expect([...mailboxes.rows.values()].filter(isBusy)).toEqual([]);
  });

  it("replaces a row that changes and leaves the others as they are", () => {
    const mailboxes = holding(row(1), row(2));
    const [first, second] = [mailboxes.rows.get(1), mailboxes.rows.get(2)];
    mailboxes.apply(fact("check_progress", { email_id: 1, progress: 75, message: "…", check_id: 1 }));
    expect(mailboxes.rows.get(1)).not.toBe(first);
    expect(first?.progress).toBe(0);
    expect(mailboxes.rows.get(2)).toBe(second);
  });

  it("takes over only the fields that an update names", () => {
    const mailboxes = holding(row(1));
    mailboxes.apply(fact("email_updated", { email_id: 1, port: 143 }));
    expect(mailboxes.rows.get(1)).toEqual(row(1, { port: 143 }));
  });

  it.each([
    fact("check_progress", { email_id: 99, progress: 5 }), fact("deploy_started", { version: "1" }), fact("unheard_of", { email_id: 1 }),
  ])("is not changed by $type of nothing it knows", (one) => {
    const mailboxes = holding(row(1));
    const before = mailboxes.revision;
    mailboxes.apply(one);
    expect(mailboxes.revision).toBe(before);
    expect([...mailboxes.rows.values()]).toEqual([row(1)]);
  });
});
