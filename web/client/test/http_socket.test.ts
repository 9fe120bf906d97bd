/** The protocol over plain HTTP: when a connection that says nothing more counts as dead. */

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { HttpSocket, whose } from "../src/client/http_socket.js";

const PAGE = { log: "a", outcome: "resumed", events: [], next: 0, more: false };
const WHO = { user: { user_id: "alice" }, expires_at: "2099-01-01T00:00:00Z", heartbeat_s: 5 };

let say: (text: string) => void;
let opened: number;
let asked: string[];

/** A server whose streams begin, and say only what the test lets them say. */
function answer(url: string, init?: RequestInit): Promise<Response> {
  asked.push(new URL(url).pathname);
  if (url.endsWith("/who")) return Promise.resolve(Response.json(WHO));
  const headers = new Headers(init?.headers);
  if (headers.get("Accept") !== "text/event-stream") return Promise.resolve(Response.json(PAGE));
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const before = say;
      say = (text) => { before(text); controller.enqueue(new TextEncoder().encode(text)); };
      opened += 1;
      init?.signal?.addEventListener("abort", () => controller.error(new Error("aborted")));
    },
  });
  return Promise.resolve(new Response(body, { headers: { "Huahuo-Heartbeat": "5" } }));
}

function connected(fetch: typeof answer): { closed: number[] } {
  const socket = new HttpSocket("ws://host:1/ws", fetch), closed: number[] = [];
  socket.onclose = ({ code }) => closed.push(code);
  socket.onopen = () => socket.send(JSON.stringify({ action: "authenticate", token: "opaque", client: "c" }));
  return { closed };
}

beforeEach(() => {
  say = () => undefined;
  opened = 0;
  asked = [];
  vi.useFakeTimers();
});
afterEach(() => void vi.useRealTimers());

test("it ends ten seconds after a comment of the server did not come", async () => {
  const { closed } = connected(answer);
  await vi.advanceTimersByTimeAsync(14_000);
  expect(opened).toBe(2);
  say(":\n\n");
  await vi.advanceTimersByTimeAsync(14_000);
  expect(closed).toEqual([]);
  await vi.advanceTimersByTimeAsync(1_100);
  expect(closed).toEqual([1006]);
});

test("it ends if a page is not answered for twenty seconds", async () => {
  const { closed } = connected(() => new Promise(() => undefined));
  await vi.advanceTimersByTimeAsync(19_000);
  expect(closed).toEqual([]);
  await vi.advanceTimersByTimeAsync(1_100);
  expect(closed).toEqual([1006]);
});

test.each([401, 403, 404])("a token that the server does not say the user of (%s) is nobody's", async (status) => {
  expect(await whose("ws://host:1/ws", "t", () => Promise.resolve(new Response("", { status })))).toBe("");
});

test("the server says whose stream is followed, so a token may be anything", async () => {
  connected(answer);
  await vi.advanceTimersByTimeAsync(10);
  expect(asked.slice(0, 3)).toEqual(["/who", "/streams/user/alice", "/streams/system"]);
});

test("a live list is an answer of its own, with the place in its address and a number of this socket", async () => {
  const told: Record<string, unknown>[] = [];
  let address = "";
  const socket = new HttpSocket("ws://host:1/ws", (url, init) => {
    if (url.includes("/lists/")) address = url;
    return answer(url, init);
  });
  socket.onmessage = ({ data }) => told.push(JSON.parse(data) as Record<string, unknown>);
  socket.onopen = () => socket.send(JSON.stringify({ action: "authenticate", token: "opaque", client: "c" }));
  await vi.advanceTimersByTimeAsync(1);
  const from = { log: "a", of: "o", position: 7, bound: "\u7cfb" };
  socket.send(JSON.stringify({ action: "follow", id: "l1", list: "open lots", fields: { category: "cars", n: 3 }, limit: 5, from }));
  await vi.advanceTimersByTimeAsync(1);
  const { pathname, searchParams } = new URL(address);
  expect([pathname, searchParams.get("category"), searchParams.get("n"), searchParams.get("limit")]).toEqual(["/lists/open%20lots", "cars", "3", "5"]);
  expect(JSON.parse(Buffer.from(searchParams.get("after") ?? "", "base64url").toString())).toEqual(from);
  say('event: following\ndata: {"type":"following","view":99,"outcome":"resumed","log":"a","position":7,"of":"o","limit":5,"order":"ascending"}\n\n');
  say('id: x\nevent: rows\ndata: {"type":"rows","view":99,"position":8,"put":[["k",1]],"drop":[]}\n\n');
  await vi.advanceTimersByTimeAsync(1);
  expect(told.slice(-2)).toEqual([
    { type: "following", id: "l1", view: 1, outcome: "resumed", log: "a", position: 7, of: "o", limit: 5, order: "ascending" },
    { type: "rows", view: 1, position: 8, put: [["k", 1]], drop: [] },
  ]);
  say('event: unfollowed\ndata: {"type":"unfollowed","view":99,"reason":"forbidden"}\n\n');
  await vi.advanceTimersByTimeAsync(1);
  expect(told.at(-1)).toEqual({ type: "unfollowed", view: 1, reason: "forbidden" });
});
