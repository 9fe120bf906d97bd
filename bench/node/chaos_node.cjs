// One of several Socket.IO servers over Redis streams, with connection state recovery: PORT REDIS_PORT.
"use strict";
const { createServer } = require("node:http");
const { createClient } = require("redis");
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/redis-streams-adapter");

const [port, redisPort] = process.argv.slice(2).map(Number);

async function main() {
  const redis = createClient({ url: `redis://127.0.0.1:${redisPort}` });
  redis.on("error", () => {}); // it connects again by itself
  await redis.connect();
  const http = createServer();
  const io = new Server(http, {
    transports: ["websocket"],
    adapter: createAdapter(redis, { maxLen: 100000 }),
    pingInterval: 2000,
    pingTimeout: 3000,
    connectionStateRecovery: { maxDisconnectionDuration: 120000, skipMiddlewares: true },
  });
  io.on("connection", (socket) => {
    socket.join(socket.handshake.query.room);
    socket.on("say", (message, ack) => {
      io.to(socket.handshake.query.room).emit("said", message);
      ack("ok");
    });
  });
  http.listen(port, "127.0.0.1", () => console.log("listening"));
}

main();
