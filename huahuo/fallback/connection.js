// One WebSocket kept alive: resumes from its cursors, applies each event once, acknowledges what was
// applied, sends a command again until it is answered (docs/protocol.md).

const ACK_MS = 250;
const HEARTBEAT_MS = 25_000;
const ANSWER_MS = 5_000;
const SIGN_IN_MS = 20_000; // the server may hold an answer back for 10 s
const COMMANDS_MAX = 200;
const WINDOW = 512;
const STOP = new Set([1000, 1002, 1007, 1009, 4003, 4009]); // 4003: this page cannot make a new token
const SLOWLY = 4504;
const FAILURES = { token_expired: 4003, token_invalid: 4500, token_revoked: 4503 };

export const stops = (code) => STOP.has(code) || (code >= 4500 && code !== SLOWLY);

export class Connection {
  // handlers: state(name, detail), opened(result), placed(stream, outcome, after), live(stream),
  // snapshot(stream, seq, state), event(stream, seq, event), stopped(code, reason)
  constructor(token, client, cursors, handlers) {
    this.token = token;
    this.client = client;
    this.cursors = new Map(); // applied, per stream
    this.log = cursors.log ?? null;
    for (const [stream, seq] of Object.entries(cursors.cursors ?? {})) this.cursors.set(stream, seq);
    this.expecting = new Set(); // streams whose snapshot must come before their events
    this.handlers = handlers;
    this.prefix = crypto.getRandomValues(new Uint32Array(2)).join("-");
    this.count = 0;
    this.waiting = new Map(); // commands without an answer, in order
    this.attempts = 0;
    for (const [target, name] of [[window, "online"], [window, "pageshow"], [document, "visibilitychange"]])
      target.addEventListener(name, () => this.probe());
    this.open();
  }

  open() {
    clearTimeout(this.retryTimer);
    if (this.socket || this.ended) return;
    this.handlers.state("connecting");
    const url = new URL("/ws", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    url.hash = "";
    const socket = (this.socket = new WebSocket(url, ["huahuo.v1"]));
    this.authenticated = false;
    this.goaway = null;
    this.asking = new Map(); // subscribe id -> stream; its older events are of no interest
    this.unacked = 0;
    socket.onopen = () => {
      this.post({
        action: "authenticate", token: this.token, client: this.client, window: WINDOW,
        resume: { log: this.log, cursors: this.log ? Object.fromEntries(this.cursors) : {} },
      });
    };
    socket.onmessage = (message) => this.socket === socket && this.received(JSON.parse(message.data));
    socket.onclose = (close) => this.socket === socket && this.closed(close.code, close.reason);
    this.deadTimer = setTimeout(() => this.lost(), SIGN_IN_MS);
  }

  close(code = 1000) {
    this.ended = true;
    clearTimeout(this.retryTimer);
    this.detach()?.close(code);
  }

  lost() {
    // as if the network were gone: nothing more is read, and the server is not waited for
    const socket = this.socket;
    if (!socket) return;
    this.closed(1006, "");
    socket.close();
  }

  detach() {
    const socket = this.socket;
    this.socket = null;
    for (const timer of [this.deadTimer, this.heartbeatTimer, this.ackTimer]) clearTimeout(timer);
    this.ackTimer = null;
    return socket;
  }

  closed(code, reason) {
    this.detach();
    if (this.goaway) ({ code, reason } = this.goaway); // codes get lost, messages were seen
    if (this.failure) code = FAILURES[this.failure] ?? code;
    if (stops(code)) {
      this.ended = true;
      this.handlers.state("stopped");
      this.handlers.stopped(code, reason);
      return;
    }
    const [low, high] = this.goaway?.retry_s ?? [0, Math.min(20, 0.5 * 2 ** this.attempts)];
    const floor = code === SLOWLY ? 30 : 0;
    const delay = Math.max(floor, low + Math.random() * (high - low));
    this.attempts += 1;
    this.handlers.state("offline", Math.ceil(delay));
    this.retryTimer = setTimeout(() => this.open(), delay * 1000);
  }

  probe() {
    if (document.visibilityState === "hidden" || this.ended) return;
    if (!this.socket) this.open();
    else if (this.authenticated) this.beat();
  }

  beat() {
    clearTimeout(this.deadTimer);
    this.post({ action: "heartbeat" });
    this.deadTimer = setTimeout(() => this.lost(), ANSWER_MS);
  }

  heard() {
    if (!this.authenticated) return;
    clearTimeout(this.deadTimer);
    clearTimeout(this.heartbeatTimer);
    this.heartbeatTimer = setTimeout(() => this.beat(), HEARTBEAT_MS);
  }

  post(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  command(action, fields = {}) {
    if (this.waiting.size >= COMMANDS_MAX) return Promise.reject(new Error("too_many"));
    const id = `${this.prefix}-${++this.count}`;
    const message = { action, id, ...fields };
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { message, resolve, reject });
      if (this.authenticated) this.post(message);
    });
  }

  load(stream) {
    this.expecting.add(stream);
    this.cursors.delete(stream);
    this.subscribe(stream, "snapshot");
  }

  subscribe(stream, after) {
    const id = `${this.prefix}-${++this.count}`;
    this.asking.set(id, stream);
    this.post({ action: "subscribe", id, stream, after, ...(Number.isInteger(after) && { log: this.log }) });
  }

  received(message) {
    this.heard();
    const { stream, seq } = message;
    switch (message.type) {
      case "authentication_result":
        return message.success ? this.opened(message) : (this.failure = message.code);
      case "subscribed":
        if (this.asking.get(message.id) !== stream) return;
        this.asking.delete(message.id);
        return this.placed(stream, message);
      case "events":
        return this.events(stream, seq, message.events);
      case "snapshot":
        if (!this.follows(stream)) return;
        this.expecting.delete(stream);
        this.cursors.set(stream, seq);
        this.handlers.snapshot(stream, seq, message.state);
        return this.acknowledge(1);
      case "skipped":
        return this.events(stream, seq, Array(Math.max(0, message.to - seq + 1)).fill(null));
      case "live":
        return this.follows(stream) && this.handlers.live(stream, seq);
      case "goaway":
        return (this.goaway = message);
      case "heartbeat":
        return this.post({ action: "heartbeat_response" });
    }
    this.replied(message);
  }

  opened(result) {
    clearTimeout(this.deadTimer);
    this.authenticated = true;
    this.failure = null;
    this.log = result.log;
    setTimeout(() => this.authenticated && (this.attempts = 0), 5000);
    this.handlers.state("catchingUp");
    const unloaded = [...this.expecting];
    for (const [stream, place] of Object.entries(result.streams)) this.placed(stream, place);
    for (const stream of unloaded) this.load(stream);
    this.handlers.opened(result);
    for (const { message } of this.waiting.values()) this.post(message);
    this.heard();
  }

  placed(stream, { outcome, after }) {
    if (["denied", "gap", "reset", "snapshot"].includes(outcome)) this.cursors.delete(stream);
    else this.cursors.set(stream, after);
    if (outcome === "denied") return;
    if (!this.cursors.has(stream)) this.expecting.add(stream);
    this.handlers.placed(stream, outcome, after);
  }

  follows(stream) {
    return ![...this.asking.values()].includes(stream);
  }

  events(stream, first, events) {
    if (!this.follows(stream) || this.expecting.has(stream)) return;
    const last = this.cursors.get(stream) ?? 0;
    if (first > last + 1) return this.subscribe(stream, last); // some are missing: ask again
    events.slice(last + 1 - first).forEach((event, i) => {
      this.cursors.set(stream, last + 1 + i);
      if (event) this.handlers.event(stream, last + 1 + i, event);
    });
    this.acknowledge(Math.max(0, events.length - (last + 1 - first)));
  }

  acknowledge(count) {
    this.unacked += count;
    if (this.unacked >= WINDOW / 2) this.sendAck();
    else this.ackTimer ??= setTimeout(() => this.sendAck(), ACK_MS);
  }

  sendAck() {
    clearTimeout(this.ackTimer);
    this.ackTimer = null;
    this.unacked = 0;
    const known = [...this.cursors].filter(([stream]) => this.follows(stream) && !this.expecting.has(stream));
    this.post({ action: "ack", cursors: Object.fromEntries(known) });
  }

  replied(message) {
    const command = this.waiting.get(message.id);
    if (!command) return;
    if (message.type === "error" && ["unavailable", "rate_limited"].includes(message.code)) {
      setTimeout(() => this.authenticated && this.post(command.message), 1000 + Math.random() * 2000);
      return;
    }
    this.waiting.delete(message.id);
    if (message.type === "error") command.reject(Object.assign(new Error(message.message), message));
    else command.resolve(message);
  }
}
