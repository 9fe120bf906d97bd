/** The client's address: of a server, of a mount in another application, or of a socket itself. As in Python. */

import { expect, test } from "vitest";
import { socketUrl } from "../src/wire/address.js";

test.each([
  ["http://127.0.0.1:8765", "ws://127.0.0.1:8765/"],
  ["https://example.org/", "wss://example.org/"],
  ["http://example.org/live", "ws://example.org/live/ws"],
  ["https://example.org/a/b/live#x", "wss://example.org/a/b/live/ws"],
  ["http://example.org/live/", "ws://example.org/live/"],
  ["http://example.org/live/ws", "ws://example.org/live/ws"],
  ["http://example.org/socket?v=1", "ws://example.org/socket?v=1"],
  ["wss://example.org/socket", "wss://example.org/socket"],
  ["/live", "wss://page.example/live/ws"],
  [undefined, "wss://page.example/"],
])("%s is the address of a server, of a mount or of a socket", (given, meant) => {
  expect(socketUrl(given, "https://page.example/shop/index.html")).toBe(meant);
});
