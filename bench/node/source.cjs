// The same ways of publishing as bench/source.py, for servers in node.
"use strict";
const fs = require("node:fs");
const readline = require("node:readline");

const GROUP = 0;
const AT_ONCE = 256;
const BACK =
  '"email_id":1,"progress":75,"message":"正在检查邮件 15/20","check_id":88,' +
  '"timestamp":"2026-11-24T10:31:07.114Z"}';

/** A real progress event with the mark that receivers look for, as text. */
const body = (number, atNs) => `{"type":"check_progress","~":${number},"t":${atNs},${BACK}`;
let origin = 0n;
const now = () => process.hrtime.bigint() + origin;
// As bench/processes.py: a pipe of its own, so that no log line can be taken for an answer.
const ANSWERS = Number(process.env.BENCH_ANSWERS_FD ?? 1);
const say = (message) => fs.writeSync(ANSWERS, JSON.stringify(message) + "\n");

/** `publish(user, number, atNs)` sends one event at once. */
exports.obey = function obey(publish, hello) {
  let number = 0;
  let target = 0;
  let running = false;
  const ofUser = new Map();
  const next = (user) => {
    const n = (ofUser.get(user) ?? 0) + 1;
    ofUser.set(user, n);
    return n;
  };

  function followTarget() {
    const at = now();
    for (let i = 0; i < AT_ONCE && number < target; i++) publish(GROUP, ++number, at);
    running = number < target;
    if (running) setImmediate(followTarget);
  }

  function openLoop(perS, count, due) {
    const start = now();
    let done = 0;
    const late = new Float64Array(count);
    (function look() {
      const until = Math.min(count, 1 + Math.floor((Number(now() - start) * perS) / 1e9));
      for (; done < until; done++) {
        const at = start + BigInt(Math.floor((done / perS) * 1e9));
        late[done] = Number(now() - at) / 1e6;
        due(at, done);
      }
      if (done < count) {
        setTimeout(look, Math.max(1, (done / perS) * 1e3 - Number(now() - start) / 1e6));
        return;
      }
      late.sort();
      say({
        published: count,
        start_ns: Number(start),
        end_ns: Number(now()),
        late_p50_ms: late[Math.floor(count / 2)],
        late_p99_ms: late[Math.floor(count * 0.99)],
      });
    })();
  }

  const commands = {
    upto({ n }) {
      target = Math.max(target, n);
      if (!running) followTarget();
    },
    rate({ per_s, count }) {
      openLoop(per_s, count, (at) => {
        target = ++number;
        publish(GROUP, number, at);
      });
    },
    feeds_rate({ users, per_s, count }) {
      openLoop(per_s, count, (at, done) => {
        const user = (done % users) + 1;
        publish(user, next(user), at);
      });
    },
    // Nobody confirms anything, so nothing is in flight but what one turn of the loop publishes before the
    // sockets get theirs: at most 500.
    feeds({ users, in_flight, seconds }) {
      const start = now();
      const end = start + BigInt(Math.floor(seconds * 1e9));
      let published = 0;
      let user = 0;
      (function pass() {
        for (let i = 0; i < Math.min(in_flight, 500); i++) {
          user = (user % users) + 1;
          publish(user, next(user), now());
          published++;
        }
        if (now() < end) setImmediate(pass);
        else say({ published, start_ns: Number(start), end_ns: Number(now()) });
      })();
    },
    // `each` events to every user, or to the group.
    fill({ users, first, each }) {
      for (let n = first; n < first + each; n++) {
        if (users === 0) publish(GROUP, n, now());
        for (let user = 1; user <= users; user++) publish(user, n, now());
      }
      say({ published: each * Math.max(users, 1) });
    },
  };
  readline.createInterface({ input: process.stdin }).on("line", (line) => {
    const { cmd, ...rest } = JSON.parse(line);
    commands[cmd](rest);
  }).on("close", () => process.exit(0));
  say(hello);
};
/** Receivers read CLOCK_MONOTONIC: `nowNs` is its time now, for a runtime whose own clock began with the process. */
exports.setClock = (nowNs) => {
  origin = nowNs - process.hrtime.bigint();
};
exports.body = body;
exports.GROUP = GROUP;
