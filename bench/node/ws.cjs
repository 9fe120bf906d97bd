// `ws` as its documentation broadcasts: one send per client. Every client names its room by its path.
"use strict";
const { WebSocketServer } = require("ws");
const { obey, body } = require("./source.cjs");

const rooms = new Map();
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false, backlog: 4096 });
server.on("connection", (socket, request) => {
  const room = Number(request.url.slice(1));
  if (!rooms.has(room)) rooms.set(room, new Set());
  rooms.get(room).add(socket);
  socket.on("close", () => rooms.get(room).delete(socket));
  socket.on("error", () => {});
  socket.send('{"type":"ready"}');
});
server.on("listening", () => {
  obey(
    (user, number, atNs) => {
      const data = Buffer.from(body(number, atNs));
      for (const socket of rooms.get(user) ?? []) socket.send(data, { binary: false });
    },
    { port: server.address().port, version: require("ws/package.json").version },
  );
});
