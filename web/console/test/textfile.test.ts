import { describe, expect, it } from "vitest";
import { textOf } from "../src/model/textfile";

const LINE = "a@qq.com----密码1";
const utf8 = new TextEncoder();

function utf16(text: string, little: boolean, mark: boolean): Uint8Array {
  const given = mark ? `\ufeff${text}` : text;
  const view = new DataView(new ArrayBuffer(given.length * 2));
  [...given].forEach((char, at) => view.setUint16(at * 2, char.charCodeAt(0), little));
  return new Uint8Array(view.buffer);
}

describe("the text of a file", () => {
  it.each([
    ["UTF-8", utf8.encode(LINE)],
    ["UTF-8 with a mark", utf8.encode(`\ufeff${LINE}`)],
    ["UTF-16, little end first, with a mark", utf16(LINE, true, true)],
    ["UTF-16, big end first, with a mark", utf16(LINE, false, true)],
    ["UTF-16, little end first, without a mark", utf16(LINE, true, false)],
    ["UTF-16, big end first, without a mark", utf16(LINE, false, false)],
    ["GB 18030", Uint8Array.from([...utf8.encode("a@qq.com----"), 0xc3, 0xdc, 0xc2, 0xeb, 0x31])],
  ])("is read from %s", (_name, bytes) => {
    expect(textOf(bytes).replace(/^\ufeff/, "")).toBe(LINE);
  });
  it("is UTF-8 with one bad place if most of it is UTF-8: cut short, or a line of another program in it", () => {
    const lines = `${LINE}\n`.repeat(4);
    const cutShort = utf8.encode(`${lines}b@qq.com----密码`).subarray(0, -1);
    expect(textOf(cutShort)).toBe(`${lines}b@qq.com----密\ufffd`);
    const mixed = Uint8Array.from([...utf8.encode(`${lines}b@qq.com----`), 0xc3, 0xdc]);
    expect(textOf(mixed).startsWith(`${lines}b@qq.com----`)).toBe(true);
  });
  it("is something even if no encoding fits", () => {
    expect(textOf(Uint8Array.from([0x61, 0x40, 0xff, 0x80]))).toMatch(/^a@/);
  });
  it("of nothing is empty", () => {
    expect(textOf(new Uint8Array())).toBe("");
  });
});
