// Bun's own server: its WebSockets are uWebSockets, and its `publish` hands an event to all of a topic natively.
// A client names its room by its path.
"use strict";
const { dlopen, ptr } = require("bun:ffi");
const { obey, body, setClock } = require("./source.cjs");

const CLOCK_MONOTONIC = 1;
const libc = dlopen("libc.so.6", { clock_gettime: { args: ["i32", "ptr"], returns: "i32" } });
const time = new BigInt64Array(2);
libc.symbols.clock_gettime(CLOCK_MONOTONIC, ptr(time));
libc.symbols.clock_gettime(CLOCK_MONOTONIC, ptr(time)); // the first call was slower
setClock(time[0] * 1000000000n + time[1]);

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request, server) {
    const room = new URL(request.url).pathname.slice(1);
    return server.upgrade(request, { data: { room } }) ? undefined : new Response("WebSocket only", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: 0,
    backpressureLimit: 64 << 20,
    open(socket) {
      socket.subscribe(socket.data.room);
      socket.send('{"type":"ready"}');
    },
    message() {},
  },
});
obey((user, number, atNs) => server.publish(String(user), body(number, atNs)), {
  port: server.port,
  version: Bun.version,
});
