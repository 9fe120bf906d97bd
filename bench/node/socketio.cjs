// Socket.IO with connection state recovery, WebSocket only. A client's room is in its query.
"use strict";
const { createServer } = require("node:http");
const { Server } = require("socket.io");
const { obey, body } = require("./source.cjs");

const http = createServer();
const io = new Server(http, {
  transports: ["websocket"],
  perMessageDeflate: false,
  httpCompression: false,
  pingInterval: 300000,
  pingTimeout: 300000,
  connectionStateRecovery: { maxDisconnectionDuration: 120000, skipMiddlewares: true },
});
io.on("connection", (socket) => {
  socket.join(socket.handshake.query.room);
  socket.emit("ready");
});
http.listen(0, "127.0.0.1", 4096, () => {
  obey(
    // An application emits objects; the event's fields are JSON already, so it is parsed once here.
    (user, number, atNs) => io.to(String(user)).emit("event", JSON.parse(body(number, atNs))),
    { port: http.address().port, version: require("socket.io/package.json").version },
  );
});
