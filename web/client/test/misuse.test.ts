/** Every misuse of the client is named. */

import { beforeEach, describe, expect, test } from "vitest";
import { Client, type ClientOptions, MemoryCursors, type SubscribeOptions } from "../src/index.js";
import { browserHost } from "../src/session/host.js";
import { refusal } from "./support/claims.js";
import { tokenOf, World } from "./support/world.js";

const STREAM = "group/ops";
const nothing = () => undefined;

let world: World;
beforeEach(() => {
  world = new World();
});

describe("misuse is named:", () => {
  const makes: [string, Partial<ClientOptions>][] = [
    ["a token and getToken", { token: "t", getToken: () => "t" }],
    ["getToken that is no function", { getToken: "t" as never }],
    ["another scheme", { token: tokenOf(1), url: "ftp://server" }],
    ["a token in the address", { token: tokenOf(1), url: "/?token=x" }],
  ];
  test.each(makes)("%s", (_, options) => {
    expect(() => world.tab(options)).toThrowError(expect.objectContaining({ name: "HuahuoError", code: "misuse" }));
  });

  test("no token, no browser", () => {
    expect(() => new Client({})).toThrowError(/`token` or `getToken`/);
    const host = { ...browserHost(), WebSocket: undefined as never };
    expect(() => new Client({ token: tokenOf(1), host })).toThrowError(/runs in a browser/);
  });

  const subscriptions: [string, string, SubscribeOptions][] = [
    ["no name", "", { onEvent: nothing }],
    ["no handler", STREAM, {}],
    ["two kinds of handlers", STREAM, { onEvent: nothing, onBatch: nothing }],
    ["a handler that is no function", STREAM, { onEvent: "x" as never }],
    ["a seq below zero", STREAM, { after: -1, onEvent: nothing }],
    ["another word", STREAM, { after: "tail" as never, onEvent: nothing }],
    ["a cursor without its log", STREAM, { after: { seq: 1 } as never, onEvent: nothing }],
    ["a snapshot that nobody takes", STREAM, { after: "snapshot", onEvent: nothing }],
    ["tabs for a place of one's own", STREAM, { after: "head", tabs: "one", onEvent: nothing }],
  ];
  test.each(subscriptions)("subscribe with %s", (_, stream, options) => {
    const { client } = world.tab({ cursors: new MemoryCursors("me") });
    expect(() => client.subscribe(stream, options)).toThrowError(expect.objectContaining({ code: "misuse" }));
  });

  const circle: Record<string, unknown> = {};
  circle["self"] = circle;
  const sends: [string, (client: Client) => Promise<unknown>, string][] = [
    ["what the client says itself", (client) => client.send("ack"), "misuse"],
    ["no action", (client) => client.send(""), "misuse"],
    ["an id among the fields", (client) => client.send("note", { id: "x" }), "misuse"],
    ["a field that is no JSON", (client) => client.send("note", { circle }), "misuse"],
    ["an id that is too long", (client) => client.send("note", {}, { id: "x".repeat(65) }), "misuse"],
    ["fields that are no object", (client) => client.send("note", 7 as never), "misuse"],
    ["more than the server takes", (client) => client.send("note", { text: "字".repeat(400_000) }), "too_large"],
  ];
  test.each(sends)("send %s", async (_, send, expected) => {
    const { client } = world.tab({ cursors: new MemoryCursors("me") });
    expect(await refusal(send(client))).toBe(expected);
  });
});
