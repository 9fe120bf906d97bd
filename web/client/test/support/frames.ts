/** What the server's compressor made (`scripts/zstd_samples.py`), and a server that has its dictionary. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { compressUsingDict, createCCtx } from "@bokuweb/zstd-wasm";
import { vi } from "vitest";
import { open } from "../../src/wire/zstd.js";

interface Made {
  readonly dictionary: { readonly id: number; readonly bytes: string };
  readonly texts: { readonly one: string; readonly sixteen: string };
  readonly frames: Record<"one" | "named" | "sixteen" | "many" | "plain" | "sizeless" | "bomb" | "largest" | "not_utf8", string>;
}

const made = JSON.parse(readFileSync(new URL("./frames.json", import.meta.url), "utf8")) as Made;
const bytesOf = (base64: string) => new Uint8Array(Buffer.from(base64, "base64"));

export const DICTIONARY = bytesOf(made.dictionary.bytes);
export const PLACE = { id: made.dictionary.id, url: `/dictionary/${made.dictionary.id}` };
export const { texts } = made;

/** A frame of its own each time: the tests damage them. */
export const frame = (name: keyof Made["frames"]): Uint8Array<ArrayBuffer> => bytesOf(made.frames[name]);

/** Give the decoder what it fetches: the WASM file, and files by their address. */
export function serve(files: Record<string, Uint8Array>): { asked: { address: string; init: RequestInit }[] } {
  const wasm = fileURLToPath(import.meta.resolve("@bokuweb/zstd-wasm")).replace(/[^/\\]*$/, "zstd.wasm");
  const asked: { address: string; init: RequestInit }[] = [];
  vi.stubGlobal("fetch", (url: URL, init: RequestInit) => {
    if (url.pathname.endsWith("/zstd.wasm")) return Promise.resolve(new Response(readFileSync(wasm)));
    asked.push({ address: url.href, init });
    const file = files[url.href];
    return Promise.resolve(new Response(file ? new Uint8Array(file) : null, { status: file ? 200 : 404 }));
  });
  return { asked };
}

/** What zstd makes of a text with the dictionary, which the frame then names; after `serve`. */
export async function compressor(): Promise<(text: string) => ArrayBuffer> {
  await open("ws://nowhere.test", null); // (the package may be started once only)
  const context = createCCtx();
  return (text) => new Uint8Array(compressUsingDict(context, new TextEncoder().encode(text), DICTIONARY, 3)).buffer;
}
