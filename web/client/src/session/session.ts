/**
 * The client's half of the protocol as a state machine without socket, clock or randomness. Pure. It mirrors
 * `transport/client/session.py`.
 *
 * The shell (`engine.ts`) calls the method for what happened, with the time in milliseconds. Then it
 *
 * - must send what `outgoing` returns,
 * - must call `tick` at `deadline`,
 * - must abandon the connection if `dead` is true,
 * - takes the news for the application from `drain`.
 *
 * ```
 *          connected              authentication_result            closed, to return
 * (away) ────────────▶ authenticating ─────────────▶ online ────────────────────▶ (away)
 *                           │ closed                    │ closed, not to return
 *                           └──────▶ (away)             └──────────▶ (stopped)
 * ```
 */

import { NOT_RECORDED } from "../model/codes.js";
import { CommandQueue, Pace } from "./commands.js";
import { HuahuoError } from "../model/errors.js";
import type { DictionaryPlace } from "../wire/inflow.js";
import type { Check, Language, Reply, User } from "../model/model.js";
import type { Happening } from "./happenings.js";
import type { Lists } from "./lists.js";
import { Liveness } from "./liveness.js";
import { Readers } from "./readers.js";
import type { Retry } from "./retry.js";
import type { AuthResultFrame, GoawayFrame, Known, Moving } from "../wire/kinds.js";
import { isKnown, isMoving, type Other, parse } from "../wire/wire.js";

export interface SessionOptions {
  /** The stable id of this installation. */
  readonly client: string;
  /** Prefix of the ids of `subscribe` messages. */
  readonly prefix: string;
  readonly retry: Retry;
  /** Maximum number of unprocessed events. */
  readonly window?: number;
  /** Rate limit of messages to the server; 0 = no limit. */
  readonly messagesPerS?: number;
  /** The live lists, if any are to be followed. */
  readonly lists?: Lists | undefined;
}

export class Session extends Readers {
  /** The last token cannot be used again. */
  needsToken = false;
  /** The language of the server's texts for people. Undefined: its own setting. */
  language: Language | undefined = undefined;
  /** The dictionary of this connection's binary messages, null if they need none. */
  dictionary: DictionaryPlace | null = null;
  private readonly client: string;
  private readonly prefix: string;
  private readonly retry: Retry;
  readonly lists: Lists | undefined;
  private readonly commands: CommandQueue;
  private readonly pace: Pace;
  private log = "";
  private count = 0;
  private readonly liveness = new Liveness();
  private goaway: GoawayFrame | null = null;
  private failure: AuthResultFrame | null = null;

  constructor(options: SessionOptions) {
    super(options.window);
    this.client = options.client;
    this.prefix = options.prefix;
    this.retry = options.retry;
    this.lists = options.lists;
    this.pace = new Pace(options.messagesPerS ?? 90);
    this.commands = new CommandQueue((attempt) => this.retry.delayMs(attempt));
  }

  /** The server is silent for too long. */
  get dead(): boolean {
    return this.liveness.dead;
  }

  // -- the connection's life ----------------------------------------------------------------------

  /** A socket is open: authenticate, and resume at the readers' cursors. */
  connected(token: string, now: number): void {
    this.phase = "authenticating";
    this.liveness.connected(now);
    this.goaway = this.failure = this.dictionary = null;
    const logs = [...this.readers.values()].map((reader) => reader.log);
    const log = this.log || logs.find((one) => one) || null;
    const cursors: Record<string, number> = {};
    const checks: Record<string, Check> = {};
    for (const pipe of this.pipes.values()) {
      const after = log === null ? null : pipe.resumeIn(log);
      if (log === null || after === null) continue;
      cursors[pipe.name] = after;
      pipe.asked = pipe.name; // the answer to the authentication also answers this
      pipe.ask = { after, log };
      const check = pipe.checkIn(log);
      if (check) checks[pipe.name] = check;
    }
    const resume = Object.keys(checks).length > 0 ? { log, cursors, checks } : { log, cursors };
    const { client, window } = this;
    this.urgent = [{ action: "authenticate", token, client, window, parts: true, resume, ...this.spoken() }];
  }

  /** Refresh the token, or change the language, on the same connection. Subscriptions stay as they are. */
  authenticateAgain(token: string): void {
    if (this.phase === "online") this.urgent.push({ action: "authenticate", token, ...this.spoken() });
  }

  private spoken(): { language?: Language } {
    return this.language ? { language: this.language } : {};
  }

  /**
   * The socket was closed or could not be opened: decide whether and when to reconnect.
   *
   * @param code the received close code, null if the connection was lost or never opened
   */
  closed(code: number | null, reason: string, now: number): void {
    if (this.phase === "stopped") return;
    this.phase = "away";
    this.liveness.closed();
    this.acks.at = Infinity;
    this.urgent = [];
    const { goaway, failure } = this;
    // The code in a received goaway is certain. That of the close after it may have been lost.
    const told = goaway ? goaway.code : code;
    const verdict = this.retry.closed(told, now, goaway?.retry_s ?? undefined, failure?.code);
    this.needsToken = verdict.newToken;
    const why = (failure && `${failure.code}: ${failure.message}`) || goaway?.reason || reason || verdict.why;
    this.commands.connectionLost();
    this.lists?.away();
    for (const pipe of this.pipes.values()) {
      pipe.connectionLost();
      if (!pipe.readers.size) this.pipes.delete(pipe.name);
    }
    if (verdict.stop) {
      this.stop(new HuahuoError("stopped", `the client stopped: ${why} (${verdict.code})`, {
        closeCode: verdict.code,
      }));
    } else {
      this.tell({ name: "offline", code: told, reason: why, retryMs: verdict.delayMs });
    }
  }

  /** Stop for good. */
  stop(error: HuahuoError): void {
    if (this.phase === "stopped") return;
    this.phase = "stopped";
    this.tell({ name: "stopped", error });
  }

  /** Send a heartbeat because the connection is doubtful. No answer within 4 s ends the connection. */
  probe(now: number): void {
    if (this.phase === "online" && this.liveness.probe(now)) this.urgent.push({ action: "heartbeat" });
  }

  // -- what the shell must do ---------------------------------------------------------------------

  /** The messages to send now, in order. */
  outgoing(now: number): string[] {
    this.acks.soon(this.window, now);
    const messages = this.urgent.map((message) => JSON.stringify(message));
    this.urgent = [];
    if (this.phase !== "online") return messages;
    for (const pipe of this.pipes.values()) {
      pipe.settle();
      const ask = pipe.retryAt <= now ? pipe.next(this.log) : null;
      if (!ask && pipe.settled) this.announce(pipe);
      if (!ask || !this.pace.take(now)) continue;
      pipe.ask = ask;
      pipe.asked = `${this.prefix}-s${++this.count}`;
      messages.push(JSON.stringify({ action: "subscribe", id: pipe.asked, stream: pipe.name, ...ask }));
    }
    for (const message of this.lists?.outgoing(now, this.prefix, () => this.pace.take(now)) ?? []) messages.push(JSON.stringify(message));
    messages.push(...this.commands.due(this.pace, now));
    return messages;
  }

  /** The latest time for the next call of `tick` and then `outgoing`. */
  deadline(): number {
    let at = Math.min(this.acks.at, this.liveness.deadline(this.phase === "online"));
    if (this.phase !== "online") return at;
    at = Math.min(at, this.commands.nextAt(this.pace), this.lists?.nextAt(this.pace.nextAt()) ?? at);
    for (const pipe of this.pipes.values()) {
      if (pipe.next(this.log)) at = Math.min(at, Math.max(pipe.retryAt, this.pace.nextAt()));
    }
    return Math.min(at, this.slowAt());
  }

  /** Apply the time: detach slow readers, send heartbeats, detect a dead connection. */
  tick(now: number): void {
    this.detachSlow(now);
    if (this.liveness.tick(now, this.phase === "online")) this.urgent.push({ action: "heartbeat" });
  }

  /** What happened since the last call, oldest first. */
  drain(): Happening[] {
    const { happened } = this;
    this.happened = [];
    return this.lists ? [...happened, ...this.lists.drain()] : happened;
  }

  /** Add a command. A known id changes nothing while it is unanswered. */
  command(id: string, text: string): void {
    this.commands.add(id, text);
  }

  /** Drop a command whose answer is not needed any more. */
  forget(id: string): void {
    this.commands.forget(id);
  }

  // -- what arrives -------------------------------------------------------------------------------

  /**
   * Handle one message of the server.
   *
   * @throws HuahuoError `protocol_violation`: abandon the connection
   */
  received(text: string, now: number): void {
    const message = parse(text);
    this.liveness.heard(now, !this.goaway && this.phase === "online");
    if (isMoving(message)) return this.moved(message, text.length);
    if (isKnown(message)) return this.known(message, now);
    const whole = this.commands.assembled(message, text.length);
    if (whole) this.replied(whole, now);
  }

  private known(message: Exclude<Known, Moving>, now: number): void {
    switch (message.type) {
      case "authentication_result":
        this.authenticated(message, now);
        return;
      case "subscribed": {
        const pipe = this.pipes.get(message.stream);
        if (pipe && pipe.asked === message.id) this.placed(pipe, message.log, message);
        return;
      }
      case "unsubscribed":
        if (message.reason === "busy" && typeof message.retry_s === "number") {
          this.pipes.get(message.stream)?.putOff(now + message.retry_s * 1000);
        } else if (message.reason) {
          const denied = message.reason === "forbidden";
          this.end(message.stream, new HuahuoError(
            denied ? "stream_denied" : message.reason,
            `${message.stream}: ${denied ? "may not be read any more" : message.reason}`,
          ));
        }
        return;
      case "goaway":
        this.goaway = message;
        this.liveness.expectEnd(now);
        this.status({ type: "goaway", code: message.code, reason: message.reason });
        return;
      case "live": {
        const { type, stream, seq } = message;
        for (const { id, cursor } of this.pipes.get(stream)?.live(message) ?? []) {
          if (cursor?.check) this.happened.push({ is: "checked", reader: id, check: cursor.check });
        }
        this.status({ type, stream, seq });
        return;
      }
      case "heartbeat":
        this.urgent.push({ action: "heartbeat_response" });
        return;
      case "following":
      case "rows":
      case "reached":
      case "state":
      case "unfollowed":
        this.lists?.received(message);
        return;
      default:
        this.status(message);
    }
  }

  private authenticated(result: AuthResultFrame, now: number): void {
    if (!result.success) {
      this.failure = result;
      this.liveness.expectEnd(now);
      return;
    }
    if (this.phase === "online") return; // a refreshed token: positions stay as they are
    this.phase = "online";
    this.liveness.online((result.heartbeat_s ?? 30) * 1000);
    this.retry.online(now);
    this.window = result.window ?? this.window;
    this.log = result.log;
    this.dictionary = result.dictionary ?? null;
    const user = result.user as unknown as User;
    this.automatic = new Set(["system", `user/${user.user_id}`]);
    this.tell({ name: "online", log: result.log, session: result.session, user });
    for (const [name, place] of Object.entries(result.streams ?? {})) {
      const pipe = this.pipe(name);
      if (!pipe.asked) pipe.ask = { after: "head" }; // the server follows this one by itself
      this.placed(pipe, result.log, place);
    }
    for (const pipe of this.pipes.values()) if (pipe.asked === pipe.name) pipe.asked = "";
  }

  private replied(message: Other, now: number): void {
    const id = typeof message.id === "string" ? message.id : "";
    const text = (name: string) => String(message[name] ?? "");
    const said = message["details"];
    const details = typeof said === "object" && said !== null ? said as Record<string, unknown> : text("details");
    const error = message.type === "error"
      ? new HuahuoError(text("code"), text("message"), { details })
      : null;
    const retryMs = 1000 * (Number(message["retry_s"]) || 0);
    if (this.commands.has(id)) {
      if (this.commands.answered(id, error?.code ?? "", now, retryMs)) {
        this.happened.push({ is: "reply", id, reply: error ?? (message as unknown as Reply) });
      }
    } else if (error) {
      const again = NOT_RECORDED.has(error.code) ? now + Math.max(retryMs, this.retry.delayMs(1)) : 0;
      if (this.lists?.failed(id, error, again)) return;
      const pipe = id ? [...this.pipes.values()].find((one) => one.asked === id) : undefined;
      if (!pipe) {
        this.problem(error.code, error.message);
      } else if (again) {
        pipe.asked = "";
        pipe.retryAt = again;
      } else {
        this.end(pipe.name, error);
      }
    }
  }

  /** Ack now what was processed, because the page is about to be left. */
  flush(): void {
    this.acks.now();
  }
}
