/**
 * `huahuo-client/zstd`: reads `huahuo.v1.zstd`. It is a separate module because the WASM has 250 kB. Give
 * `decoder: () => import("huahuo-client/zstd")` to the client, and it is loaded with the first compressed
 * message.
 *
 * A frame's header is checked before memory is allocated for its content, as a defence against
 * decompression bombs.
 */

import { createDCtx, decompress, decompressUsingDict, init } from "@bokuweb/zstd-wasm";
import { HuahuoError } from "../model/errors.js";
import type { Decode, DictionaryPlace } from "./inflow.js";

export const CONTENT_BYTES_MAX = 17 << 20;
const DICTIONARY_BYTES_MAX = 1 << 20;
const WASM_BYTES_MAX = 4 << 20;
const DICTIONARIES_MAX = 4;
const FETCH_WITHIN_MS = 10_000;
const FRAME_MAGIC = 0xfd2fb528;
const DICTIONARY_MAGIC = 0xec30a437;
const PATH = /^\/(?![/\\])[!-~]*$/;

const known = new Map<string, Promise<Decode>>();
let started: Promise<void> | null = null;

/**
 * Prepare for the messages of one connection. Dictionaries are cached by their ids.
 *
 * @param server the WebSocket's address; dictionaries are loaded only from this server
 * @throws HuahuoError `protocol_violation`, or what `fetch` throws
 */
export async function open(server: string, place: DictionaryPlace | null): Promise<Decode> {
  const key = place ? `${new URL(server).origin} ${place.id}` : "";
  let decode = known.get(key);
  if (!decode) {
    for (const oldest of known.keys()) {
      if (known.size < DICTIONARIES_MAX) break;
      known.delete(oldest);
    }
    known.set(key, (decode = prepare(server, place)));
    decode.catch(() => known.delete(key));
  }
  return decode;
}

async function prepare(server: string, place: DictionaryPlace | null): Promise<Decode> {
  const starting = (started ??= start());
  starting.catch(() => (started = null));
  const [dictionary] = await Promise.all([place && fetchDictionary(server, place), starting]);
  const context = createDCtx();
  const text = new TextDecoder("utf-8", { fatal: true });
  return (data) => {
    const frame = new Uint8Array(data);
    const size = contentSize(frame, place?.id ?? 0);
    const content = dictionary ? decompressUsingDict(context, frame, dictionary) : decompress(frame);
    if (content.length !== size) throw violation("a zstd frame that is not what it states");
    return text.decode(content);
  };
}

/** Load the WASM first, because the package itself would wait for ever for a file that cannot be loaded. */
async function start(): Promise<void> {
  const bytes = await load(new URL(/* @vite-ignore */ "./zstd.wasm", import.meta.url), WASM_BYTES_MAX);
  await WebAssembly.compile(bytes); // also throws if the page's policy forbids WASM
  await (init as (wasm: Uint8Array) => Promise<void>)(bytes); // its types omit the parameter
}

async function fetchDictionary(server: string, { id, url }: DictionaryPlace): Promise<Uint8Array> {
  const base = new URL(server.replace(/^ws/, "http"));
  // A proxy may have taken the beginning of the path away, of which the server then knows nothing.
  const below = /\/(ws)?$/.test(base.pathname) ? /[^/]+\/[^/]+$/ : /.*/;
  const address = typeof url === "string" && PATH.test(url) ? new URL(below.exec(url)?.[0] ?? url, base) : null;
  if (address?.origin !== base.origin) throw violation("the dictionary's address is not a path on the server");
  const dictionary = await load(address, DICTIONARY_BYTES_MAX);
  if (dictionary.length < 8 || read(dictionary, 0, 4) !== DICTIONARY_MAGIC || read(dictionary, 4, 4) !== id) {
    throw violation(`what ${url} gave is not the dictionary ${String(id)}`);
  }
  return dictionary;
}

/** Load a file without credentials. Throws if it has more than `bytesMax`. */
async function load(address: URL, bytesMax: number): Promise<Uint8Array<ArrayBuffer>> {
  const signal = AbortSignal.timeout(FETCH_WITHIN_MS);
  const response = await fetch(address, { credentials: "omit", redirect: "error", signal });
  if (!response.ok || !response.body) throw violation(`${address.pathname}: status ${response.status}`);
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  const reader = response.body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    if ((length += part.value.length) > bytesMax) {
      await reader.cancel();
      throw violation(`${address.pathname}: more than ${bytesMax} bytes`);
    }
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/**
 * The content size that one frame (RFC 8878, 3.1.1) states. The frame may omit the id of its dictionary.
 *
 * @throws HuahuoError `protocol_violation`
 */
export function contentSize(frame: Uint8Array, dictionary: number): number {
  if (frame.length < 6 || read(frame, 0, 4) !== FRAME_MAGIC) throw violation("not a zstd frame");
  const descriptor = read(frame, 4, 1);
  const single = (descriptor & 0x20) !== 0;
  const sizeFlag = descriptor >> 6;
  const idAt = single ? 5 : 6;
  const idBytes = [0, 1, 2, 4][descriptor & 3] as number;
  const sizeBytes = [single ? 1 : 0, 2, 4, 8][sizeFlag] as number;
  const blocksAt = idAt + idBytes + sizeBytes;
  if (sizeBytes === 0) throw violation("a zstd frame that does not state its size");
  if (frame.length < blocksAt) throw violation("a damaged zstd frame");
  const id = read(frame, idAt, idBytes);
  if (id !== 0 && id !== dictionary) throw violation(`made with the dictionary ${id}, not ${dictionary}`);
  const size = read(frame, idAt + idBytes, sizeBytes) + (sizeBytes === 2 ? 256 : 0);
  if (size > CONTENT_BYTES_MAX) throw violation(`a zstd frame larger than ${CONTENT_BYTES_MAX} bytes`);
  if (endOf(frame, blocksAt, (descriptor & 4) !== 0) !== frame.length) throw violation("not exactly one zstd frame");
  return size;
}

/** The end of a frame whose blocks begin at `at`. */
function endOf(frame: Uint8Array, at: number, checksum: boolean): number {
  let end = at;
  for (let last = false; !last && end + 3 <= frame.length; ) {
    const header = read(frame, end, 3);
    last = (header & 1) !== 0;
    const repeated = ((header >> 1) & 3) === 1; // an RLE block: one byte, repeated
    end += 3 + (repeated ? 1 : header >> 3);
    if (last) return end + (checksum ? 4 : 0);
  }
  return -1;
}

/** A little-endian number. */
function read(bytes: Uint8Array, at: number, count: number): number {
  let value = 0;
  for (let n = count - 1; n >= 0; n--) value = value * 256 + (bytes[at + n] ?? 0);
  return value;
}

const violation = (message: string): HuahuoError => new HuahuoError("protocol_violation", message);
