import { describe, expect, it } from "vitest";
import { asUtc, bytes, clock, when } from "../src/model/format";
import { merged } from "../src/model/mails";
import { formatRoute, parseRoute, tokenIn } from "../src/model/route";
import { said } from "../src/words/said";

describe("route", () => {
  it.each(["#/mailboxes", "#/mailboxes/17", "#/mailboxes/17/99", "#/live", "#/audit"])("%s comes back as it is", (hash) => {
    expect(formatRoute(parseRoute(hash))).toBe(hash);
  });
  it.each(["", "#/nowhere", "#/mailboxes/<img>", "#token=a.b.c"])("takes %j for the mailboxes", (hash) => {
    expect(parseRoute(hash)).toEqual({ page: "mailboxes", mailbox: null, mail: null });
  });
  it("finds a token only in a sign-in link", () => {
    expect(tokenIn("#token=a.b.c")).toBe("a.b.c");
    expect(tokenIn("#/mailboxes/17")).toBeNull();
    expect(tokenIn("#token=")).toBeNull();
  });
});

describe("merged", () => {
  const mail = (mail_id: number, received_time: string) =>
    ({ mail_id, email_id: 1, subject: "", sender: "", received_time, folder: "INBOX", has_attachments: false });
  it("has each mail once, newest first, whatever brought it", () => {
    const known = [mail(3, "2026-11-24T10:00:03Z"), mail(1, "2026-11-24T10:00:01Z")];
    const all = merged(known, [mail(3, "2026-11-24T10:00:03Z"), mail(2, "2026-11-24T10:00:02Z")]);
    expect(all.map(({ mail_id }) => mail_id)).toEqual([3, 2, 1]);
  });
});

describe("said", () => {
  it.each([
    ["正在处理第 15/20 封邮件", "Reading mail 15 of 20"],
    ["登录被拒绝：用户名或密码错误 (login refused: wrong user name or password): [AUTH] no", "Login refused: wrong user name or password: [AUTH] no"],
    ["Plain English (with brackets)", "Plain English (with brackets)"],
    ["the address occurs twice", "The address occurs twice"],
    ["未知的话", "未知的话"],
  ])("says %j in English", (text, english) => expect(said(text, "en")).toBe(english));
  it("says only the Chinese half in Chinese", () => {
    expect(said("登录被拒绝：用户名或密码错误 (login refused: wrong user name or password): no", "zh")).toBe("登录被拒绝：用户名或密码错误: no");
    expect(said("正在处理第 15/20 封邮件", "zh")).toBe("正在处理第 15/20 封邮件");
  });
});

describe("format", () => {
  it("shows what is no time as it came", () => {
    expect(when("soon", "en")).toBe("soon");
    expect(clock("soon")).toBe("soon");
  });
  it("writes sizes in powers of 1024", () => expect([0, 1023, 1536, 5 << 20].map(bytes)).toEqual(["0 B", "1023 B", "1.5 KiB", "5.0 MiB"]));
  it("gives the wire UTC", () => {
    expect(asUtc("")).toBeUndefined();
    expect(asUtc("2026-11-24T10:31:07")).toMatch(/^2026-11-2[345]T\d\d:31:07\.000Z$/);
  });
});
