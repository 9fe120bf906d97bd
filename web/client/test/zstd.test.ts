/** `huahuo-client/zstd` alone: it reads what the server's compressor makes, and refuses anything else. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { open } from "../src/wire/zstd.js";
import { DICTIONARY, frame, PLACE, serve, texts } from "./support/frames.js";

let server = "";
let address = "";
let count = 0;
beforeEach(() => {
  const host = `server${++count}.test`; // what is known of a server is kept
  server = `wss://${host}/ws`;
  address = `https://${host}${PLACE.url}`;
});
afterEach(() => vi.unstubAllGlobals());

const ready = () => {
  serve({ [address]: DICTIONARY });
  return open(server, PLACE);
};
const edited = (name: Parameters<typeof frame>[0], edit: (bytes: Uint8Array) => void) => {
  const bytes = frame(name);
  edit(bytes);
  return bytes.buffer;
};
const join = (...parts: Uint8Array[]) => new Uint8Array(Buffer.concat(parts)).buffer;

describe("a message", () => {
  test("made with the dictionary is the text that the server made it of", async () => {
    const decode = await ready();
    expect(decode(frame("one").buffer)).toBe(texts.one);
    expect(decode(frame("sixteen").buffer)).toBe(texts.sixteen);
    const messages = decode(frame("many").buffer).split(/(?<=\]\})/);
    expect([messages.length, new Set(messages).size]).toEqual([500, 1]);
    expect(decode(frame("one").buffer)).toBe(texts.one);
  });

  test("is read as well when it names the dictionary, or needs none", async () => {
    const decode = await ready();
    expect(decode(frame("named").buffer)).toBe(texts.one);
    expect(decode(frame("plain").buffer)).toBe(texts.one);
  });

  test("of 17 MiB is read", async () => {
    const decode = await ready();
    expect(decode(frame("largest").buffer)).toHaveLength(17 << 20);
  });

  test("without a dictionary is read where none was announced", async () => {
    const { asked } = serve({});
    const decode = await open(server, null);
    expect(decode(frame("plain").buffer)).toBe(texts.one);
    expect(() => decode(frame("named").buffer)).toThrow(`made with the dictionary ${PLACE.id}, not 0`);
    expect(() => decode(frame("one").buffer)).toThrow(Error);
    expect(decode(frame("plain").buffer)).toBe(texts.one);
    expect(asked).toEqual([]);
  });

  test.each([
    ["that is no frame", () => new TextEncoder().encode('{"type":"live"}').buffer, /not a zstd frame/],
    ["that is empty", () => new ArrayBuffer(0), /not a zstd frame/],
    ["whose header is cut", () => frame("sixteen").slice(0, 6).buffer, /damaged/],
    ["that does not state its size", () => frame("sizeless").buffer, /does not state its size/],
    ["larger than 17 MiB", () => frame("bomb").buffer, /larger than/],
    ["made with another dictionary", () => edited("named", (bytes) => (bytes[5]! ^= 1)), /made with the dictionary/],
    ["whose end is missing", () => frame("sixteen").slice(0, -1).buffer, /not exactly one/],
    ["with a byte behind it", () => join(frame("one"), new Uint8Array(1)), /not exactly one/],
    ["with a frame behind it", () => join(frame("one"), frame("one")), /not exactly one/],
    ["that holds less than it states", () => edited("one", (bytes) => (bytes[5]! += 1)), /Failed|states/],
    ["that holds more than it states", () => edited("one", (bytes) => (bytes[5]! -= 1)), /Failed|states/],
    ["that is no UTF-8", () => frame("not_utf8").buffer, /./],
  ])("%s is refused, and the next one is read", async (_, made, why) => {
    const decode = await ready();
    expect(() => decode(made())).toThrow(why);
    expect(decode(frame("one").buffer)).toBe(texts.one);
  });

  test("that is damaged anywhere never takes more than it may, and never breaks the decoder", async () => {
    const decode = await ready();
    for (let at = 0; at < frame("sixteen").length; at++) {
      for (const mask of [0x01, 0x80, 0xff]) {
        try {
          expect(decode(edited("sixteen", (bytes) => (bytes[at]! ^= mask))).length).toBeLessThanOrEqual(17 << 20);
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
      }
    }
    expect(decode(frame("sixteen").buffer)).toBe(texts.sixteen);
  });
});

describe("a dictionary", () => {
  test("is fetched once, from the WebSocket's own host, without a token", async () => {
    const { asked } = serve({ [address]: DICTIONARY });
    await Promise.all([open(server, PLACE), open(server, PLACE)]);
    await open(server, PLACE);
    expect(asked.map((one) => one.address)).toEqual([address]);
    expect(asked[0]?.init).toMatchObject({ credentials: "omit", redirect: "error" });
    expect(asked[0]?.init.headers).toBeUndefined();
  });

  test.each([
    "//other.test/d", "/\\other.test/d", "https://other.test/d", "dictionary/1", "/a b", "/\t/other.test", "", 7,
  ])("at %j is not fetched", async (url) => {
    const { asked } = serve({});
    await expect(open(server, { id: PLACE.id, url: url as string })).rejects.toThrow("not a path on the server");
    expect(asked).toEqual([]);
  });

  test.each([
    ["that is another one", { ...PLACE, id: PLACE.id + 1 }, DICTIONARY, /not the dictionary/],
    ["that is none", PLACE, new Uint8Array(100), /not the dictionary/],
    ["that is cut", PLACE, DICTIONARY.slice(0, 7), /not the dictionary/],
    ["larger than 1 MiB", PLACE, new Uint8Array((1 << 20) + 1), /more than 1048576 bytes/],
  ])("%s is refused, and asked for again by the next connection", async (_, place, bytes, why) => {
    serve({ [address]: bytes });
    await expect(open(server, place)).rejects.toThrow(why);
    await expect(ready()).resolves.toBeTypeOf("function");
  });

  test("that is not there is an error", async () => {
    serve({});
    await expect(open(server, PLACE)).rejects.toThrow("status 404");
  });
});
