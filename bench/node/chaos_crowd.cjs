// Clients that write numbered messages into the room of their circle and read it: COUNT CIRCLE PAUSE_MS PORT,PORT,…
// A line on standard input ends the writing; what was acknowledged, lost and doubled is printed 20 s later.
"use strict";
const { io } = require("socket.io-client");

const [count, circle, pauseMs] = process.argv.slice(2, 5).map(Number);
const ports = process.argv[5].split(",");
const SETTLE_MS = 20000;
const ANSWER_MS = 3000;

let writes = true;
const members = [];

function member(number) {
  const room = `circle-${Math.floor(number / circle)}`;
  const one = { room, got: new Map(), acknowledged: [], socket: null, at: number };
  one.socket = io(`http://127.0.0.1:${ports[number % ports.length]}`, {
    transports: ["websocket"],
    query: { room },
    reconnectionDelay: 200,
    reconnectionDelayMax: 2000,
    forceNew: true,
  });
  one.socket.on("said", (message) => one.got.set(message, (one.got.get(message) ?? 0) + 1));
  one.socket.io.on("reconnect_attempt", () => {
    one.at += 1; // the next server, as a load balancer would choose
    one.socket.io.uri = `http://127.0.0.1:${ports[one.at % ports.length]}`;
  });
  return one;
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function write(one, number) {
  await pause(Math.random() * pauseMs);
  for (let n = 0; writes; n += 1) {
    const message = `${number}-${n}`;
    for (;;) {
      try {
        await one.socket.timeout(ANSWER_MS).emitWithAck("say", message);
        one.acknowledged.push(message);
        break;
      } catch {
        await pause(200); // sent again until it is acknowledged
      }
    }
    await pause(pauseMs * (0.5 + Math.random()));
  }
}

async function main() {
  for (let number = 0; number < count; number += 1) members.push(member(number));
  const writing = members.map(write);
  await new Promise((done) => process.stdin.once("data", done));
  writes = false;
  await Promise.race([Promise.all(writing), pause(SETTLE_MS)]);
  await pause(SETTLE_MS / 2);
  let acknowledged = 0;
  let delivered = 0;
  let lost = 0;
  let doubled = 0;
  for (const one of members) {
    acknowledged += one.acknowledged.length;
    delivered += one.got.size;
    for (const times of one.got.values()) doubled += times - 1;
    for (const other of members) {
      if (other.room === one.room) lost += other.acknowledged.filter((message) => !one.got.has(message)).length;
    }
  }
  console.log(JSON.stringify({ acknowledged, delivered, lost, doubled }));
  process.exit(0);
}

main();
