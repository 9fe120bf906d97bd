/**
 * The owner of the connection: a `Session` with its WebSocket and its timer. It serves one tab or all. The
 * first part of a reader's id is its tab, and for each command the engine remembers the tab.
 *
 * All decisions about the protocol are in `session.ts`.
 */

import { UNSUPPORTED_VERSION } from "../model/codes.js";
import { HuahuoError, toData } from "../model/errors.js";
import type { Host } from "./host.js";
import { type Decoder, Inflow } from "../wire/inflow.js";
import type { Lists } from "./lists.js";
import type { EngineMessage, StateData, TabMessage } from "../wire/messages.js";
import type { Language, State } from "../model/model.js";
import { Retry } from "./retry.js";
import type { Happening } from "./happenings.js";
import { Session } from "./session.js";

export const SUBPROTOCOL = "huahuo.v1";
const ZSTD_SUBPROTOCOL = "huahuo.v1.zstd";
const OPEN_WITHIN_MS = 10_000;
const TIMER_STEP_MS = 5;
/** How many handshakes in a row must fail before the client tries plain HTTP. */
const REFUSED_MAX = 2;
/** After this, a connection that was lost tries a WebSocket again. */
const SOCKET_AGAIN_MS = 600_000;

export interface EngineOptions {
  readonly host: Host;
  readonly url: string;
  readonly client: string;
  /** A token to connect with. `fresh`: not the last one again. */
  readonly token: (fresh: boolean) => Promise<string>;
  readonly renewable: boolean;
  readonly window: number;
  /** The live lists. Undefined: none are followed. */
  readonly lists?: Lists;
  readonly backoffMs: readonly [number, number];
  /** Loads the decoder for compressed messages. Undefined: the client does not ask for compression. */
  readonly decoder: (() => Promise<Decoder>) | undefined;
  /** Deliver a message to one tab (null: to all). */
  readonly deliver: (tab: string | null, message: EngineMessage) => void;
}

export const tabOf = (reader: string): string => reader.slice(0, reader.indexOf("."));

export class Engine {
  state: StateData = { name: "connecting" };
  private readonly session: Session;
  private readonly senders = new Map<string, string>();
  private socket: WebSocket | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private timerAt = Infinity;
  private comeBack: ReturnType<typeof setTimeout> | undefined;
  private renewal: ReturnType<typeof setTimeout> | undefined;
  private renewedAt = -Infinity;
  /** Set when a compressed message could not be read: from then on, connect without compression. */
  private plain = false;
  /** Handshakes of WebSockets that failed in a row. */
  private refused = 0;
  private refusedAt = 0;
  private stopped = false;
  private pumping = false;

  constructor(private readonly options: EngineOptions) {
    const { host, client, window, backoffMs, renewable, lists } = options;
    const retry = new Retry(() => host.random(), backoffMs[0], backoffMs[1], renewable);
    this.session = new Session({ client, window, retry, prefix: host.id(), lists });
  }

  start(): void {
    void this.connect();
  }

  /** Ack what was processed and disconnect. The tabs keep their readers and commands. */
  stop(): void {
    if (this.stopped) return;
    this.session.flush();
    this.send();
    this.stopped = true;
    clearTimeout(this.timer);
    clearTimeout(this.comeBack);
    clearTimeout(this.renewal);
    this.drop();
  }

  /** Reconnect now or probe the connection, e.g. because the page is visible again. */
  wake(): void {
    if (this.comeBack !== undefined) {
      clearTimeout(this.comeBack);
      void this.connect();
      return;
    }
    this.session.probe(this.now());
    this.pump();
  }

  /** Drop the readers of a tab that is gone. Its commands are still executed. */
  forgetTab(tab: string): void {
    this.session.detachAll(`${tab}.`);
    this.session.lists?.detachAll(`${tab}.`);
    this.pump();
  }

  receive(tab: string, message: TabMessage): void {
    if (this.stopped) return;
    switch (message.do) {
      case "attach":
        this.session.attach(message.reader, message.stream, message.start, message.cursor);
        break;
      case "detach":
        if (!this.session.lists?.detach(message.reader)) this.session.detach(message.reader);
        break;
      case "done":
        this.session.processed(message.reader, message.era, message.seq);
        break;
      case "command":
        this.senders.set(message.id, tab);
        this.session.command(message.id, message.text);
        break;
      case "forget":
        this.senders.delete(message.id);
        this.session.forget(message.id);
        break;
      case "wake":
        this.wake();
        return;
      default:
        this.session.lists?.receive(message);
    }
    this.pump();
  }

  // -- the socket ---------------------------------------------------------------------------------

  /** Whether WebSockets seem to be blocked, so that plain HTTP is tried. */
  private get blocked(): boolean {
    const { overHttp } = this.options.host;
    return overHttp !== undefined && this.refused >= REFUSED_MAX && this.now() - this.refusedAt < SOCKET_AGAIN_MS;
  }

  /** A WebSocket that never opened may be blocked; what plain HTTP cannot reach either is down. */
  private note(overHttp: boolean, worked: boolean): void {
    if (worked ? !overHttp : overHttp) this.refused = 0;
    else if (!worked) this.refused += 1;
    if (!overHttp) this.refusedAt = this.now();
  }

  private async connect(): Promise<void> {
    this.comeBack = undefined;
    if (this.stopped) return;
    this.tell({ name: "connecting" });
    let token: string;
    try {
      token = await this.options.token(this.session.needsToken);
    } catch (error) {
      this.noToken(error);
      return;
    }
    if (this.stopped) return;
    const { host, url, decoder } = this.options;
    const protocols = decoder && !this.plain ? [ZSTD_SUBPROTOCOL, SUBPROTOCOL] : [SUBPROTOCOL];
    const { overHttp } = this.blocked ? host : {};
    const socket = overHttp ? overHttp(url) : new host.WebSocket(url, protocols);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    let worked = false;
    const given = setTimeout(() => this.lost(socket, null, "no answer to the handshake"), OPEN_WITHIN_MS);
    socket.onopen = () => {
      clearTimeout(given);
      if (this.socket !== socket) return;
      worked ||= !overHttp;
      if (!protocols.includes(socket.protocol)) {
        this.lost(socket, UNSUPPORTED_VERSION, `the server does not speak ${SUBPROTOCOL}`);
        return;
      }
      this.session.connected(token, this.now());
      this.pump();
    };
    const open = async () => (await decoder!()).open(url, this.session.dictionary);
    let inflow: Inflow | null = null;
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      worked = true;
      inflow ??= new Inflow(socket.protocol === ZSTD_SUBPROTOCOL ? open : null, take, fail);
      inflow.received(data);
    };
    const take = (text: string) => {
      if (this.socket !== socket) return;
      this.session.received(text, this.now());
      this.pump();
    };
    const fail = (error: unknown, binary: boolean) => {
      if (this.socket !== socket) return;
      this.plain ||= binary;
      const why = error instanceof Error ? error.message : String(error);
      const reason = binary ? `a compressed message cannot be read: ${why}` : why;
      this.status("protocol_violation", reason);
      this.lost(socket, null, reason);
    };
    socket.onclose = (event) => {
      clearTimeout(given);
      this.note(overHttp !== undefined, worked);
      // With 1005 and 1006 the browser says that it received no code.
      this.lost(socket, event.code < 1007 && event.code > 1004 ? null : event.code, event.reason);
    };
  }

  private noToken(error: unknown): void {
    if (error instanceof HuahuoError && error.code === "misuse") {
      this.session.stop(error);
    } else {
      const name = error instanceof Error ? error.name : "it was rejected";
      this.session.closed(null, `getToken failed: ${name}`, this.now());
    }
    this.pump();
  }

  private lost(socket: WebSocket, code: number | null, reason: string): void {
    if (this.socket !== socket) return;
    this.drop();
    this.session.closed(code, reason, this.now());
    this.pump();
  }

  /** Abandon the socket without waiting for its close, which takes long for a dead one. */
  private drop(): void {
    const { socket } = this;
    this.socket = null;
    socket?.close();
  }

  // -- between the session and the rest -------------------------------------------------------------

  private pump(): void {
    if (this.pumping || this.stopped) return;
    this.pumping = true;
    try {
      // Sending can cause happenings too, e.g. a reader is placed in a stream that is followed already.
      for (let first = true, more = this.session.drain(); first || more.length > 0; more = this.session.drain()) {
        more.forEach(this.happen);
        this.send();
        first = false;
      }
    } finally {
      this.pumping = false;
    }
    this.arm();
  }

  private readonly happen = (happening: Happening): void => {
    const { deliver } = this.options;
    switch (happening.is) {
      case "readable": {
        const item = this.session.take(happening.reader, this.now());
        if (!item) return;
        const era = this.session.eraOf(happening.reader);
        const check = this.session.checkOf(happening.reader);
        deliver(tabOf(happening.reader), { is: "item", reader: happening.reader, era, item, check });
        return;
      }
      case "reply": {
        const tab = this.senders.get(happening.id);
        this.senders.delete(happening.id);
        const { id, reply } = happening;
        const answer = reply instanceof HuahuoError ? { error: toData(reply) } : { reply };
        if (tab !== undefined) deliver(tab, { is: "reply", id, ...answer });
        return;
      }
      case "ended":
        deliver(tabOf(happening.reader), { ...happening, error: toData(happening.error) });
        return;
      case "state":
        this.changed(happening.state);
        return;
      case "status":
        if (happening.status.type === "token_expiring") this.renewSoon(happening.status.in_s);
        deliver(null, happening);
        return;
      default:
        deliver(tabOf(happening.reader), happening);
    }
  };

  private changed(state: State): void {
    if (state.name === "offline") this.comeBack = setTimeout(() => void this.connect(), state.retryMs);
    this.tell(state.name === "stopped" ? { name: "stopped", error: toData(state.error) } : state);
  }

  private tell(state: StateData): void {
    this.state = state;
    this.options.deliver(null, { is: "state", state });
  }

  /** Hear texts for people in this language from now on. */
  async speak(language: Language | undefined): Promise<void> {
    if (this.session.language === language) return;
    this.session.language = language;
    if (this.session.phase === "online") {
      this.session.authenticateAgain(await this.options.token(false));
      this.pump();
    }
  }

  private status(code: string, message: string): void {
    this.options.deliver(null, { is: "status", status: { type: "problem", code, message } });
  }

  /** Renew the token at once, but a short-lived one at most twice in its lifetime. */
  private renewSoon(inS: number): void {
    if (!this.options.renewable) return;
    clearTimeout(this.renewal);
    const waitMs = this.renewedAt + inS * 500 - this.now();
    this.renewal = setTimeout(() => void this.renew(inS), Math.max(0, waitMs));
  }

  private async renew(inS: number): Promise<void> {
    this.renewedAt = this.now();
    try {
      this.session.authenticateAgain(await this.options.token(true));
    } catch (error) {
      this.status("no_token", error instanceof Error ? error.name : "getToken was rejected");
      if (!this.stopped) this.renewSoon(inS / 2);
    }
    this.pump();
  }

  private send(): void {
    const { socket } = this;
    if (!socket || socket.readyState !== 1) return;
    for (const message of this.session.outgoing(this.now())) socket.send(message);
  }

  private arm(): void {
    const at = this.session.deadline();
    if (at >= this.timerAt && this.timer !== undefined) return; // the earlier timer will set the next one
    clearTimeout(this.timer);
    this.timer = undefined;
    this.timerAt = at;
    if (at < Infinity) this.timer = setTimeout(this.onTime, Math.max(TIMER_STEP_MS, at - this.now()));
  }

  private readonly onTime = (): void => {
    this.timer = undefined;
    this.session.tick(this.now());
    if (this.session.dead && this.socket) this.lost(this.socket, null, "no sign of life from the server");
    else this.pump();
  };

  private now(): number {
    return this.options.host.now();
  }
}
