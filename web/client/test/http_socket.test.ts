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

test.each([
  [`h.${btoa('{"user_id":7,"username":"Eve","exp":4102444800}')}.s`, ["/who", "/streams/user/7", "/streams/system"]],
  ["opaque", ["/who"]],
])("with a server that has no /who yet, the token says who the user is: %s", async (token, paths) => {
  const older = (url: string, init?: RequestInit) => {
    const found = answer(url, init);
    return url.endsWith("/who") ? Promise.resolve(new Response("{}", { status: 404 })) : found;
  };
  const socket = new HttpSocket("ws://host:1/ws", older), said: string[] = [], ends: string[] = [];
  socket.onmessage = ({ data }) => said.push(data);
  socket.onclose = ({ reason }) => ends.push(reason);
  socket.onopen = () => socket.send(JSON.stringify({ action: "authenticate", token, client: "c" }));
  await vi.advanceTimersByTimeAsync(10);
  expect(asked.slice(0, 3)).toEqual(paths);
  if (token === "opaque") expect(ends).toEqual([expect.stringMatching(/older than this client.*update it/)]);
  else {
    const user = { user_id: 7, username: "Eve", is_admin: false, groups: [] };
    expect(JSON.parse(said[0] ?? "")).toMatchObject({ user });
  }
});

test.each([401, 403, 404])("a token that the server does not say the user of (%s) is nobody's", async (status) => {
  expect(await whose("ws://host:1/ws", "t", () => Promise.resolve(new Response("", { status })))).toBe("");
});

test("the server says whose stream is followed, so a token may be anything", async () => {
  connected(answer);
  await vi.advanceTimersByTimeAsync(10);
  expect(asked.slice(0, 3)).toEqual(["/who", "/streams/user/alice", "/streams/system"]);
});
