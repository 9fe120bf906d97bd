/**
 * A browser with tabs, and a server, without either: WebSockets end at a `ModelConnection`, locks and
 * channels work between tabs as the browser's do, IndexedDB is the one of fake-indexeddb.
 */

import "fake-indexeddb/auto";
import { Client, type ClientOptions } from "../../src/index.js";
import type { Host } from "../../src/session/host.js";
import { ModelConnection, ModelLog } from "./model.js";

export const ZSTD = "huahuo.v1.zstd";

export const tokenOf = (user: number, more: object = {}): string =>
  `h.${btoa(JSON.stringify({ user_id: user, ...more })).replaceAll("=", "")}.s`;

/** Options of a page, and how its server says whom a token names. */
export type PageOptions = Partial<ClientOptions> & Pick<Host, "whose">;

export class World {
  /** Whom the server signs in. */
  user = 42;
  readonly log = new ModelLog();
  readonly connections: { model: ModelConnection; socket: FakeSocket; tab: Tab }[] = [];
  readonly locks = new Locks();
  readonly channels = new Set<FakeChannel>();
  reachable = true;
  /** What the server chooses if it is offered; else the plain protocol. */
  protocol = "huahuo.v1";
  /** What was offered, by connection. */
  readonly offers: string[][] = [];
  /** What becomes of messages that may be compressed. */
  compress: (text: string) => string | ArrayBuffer = (text) => text;
  private count = 0;

  /** The connection that stands; undefined: none does. */
  get connection() {
    return this.connections.at(-1);
  }

  tab(options: PageOptions = {}): Tab {
    return new Tab(this, ++this.count, options);
  }

  append(stream: string, count = 1): void {
    for (let n = 0; n < count; n++) this.log.append(stream);
    this.pump();
  }

  /** Everything that may be sent is sent. */
  pump(): void {
    for (const { model, socket } of this.connections) {
      for (let frame = model.step(); frame; frame = model.step()) socket.deliver(frame);
    }
  }

  cut(): void {
    for (const { socket } of [...this.connections]) socket.end(1006);
  }

  opened(socket: FakeSocket, tab: Tab): void {
    for (const other of [...this.connections]) other.socket.end(4009, true); // one client id: the newer takes over
    this.connections.push({ model: new ModelConnection(this.log, this.user), socket, tab });
  }

  closed(socket: FakeSocket): void {
    const index = this.connections.findIndex((one) => one.socket === socket);
    if (index >= 0) this.connections.splice(index, 1);
  }

  said(action: string): Record<string, unknown>[] {
    return this.connection?.model.said.filter((message) => message.action === action) ?? [];
  }
}

export class Tab {
  readonly window = new EventTarget();
  readonly client: Client;
  readonly sockets = new Set<FakeSocket>();
  readonly open = new Set<FakeChannel>();
  alive = true;
  private ids = 0;

  constructor(readonly world: World, readonly number: number, { whose, ...options }: PageOptions) {
    const token = options.token === undefined && options.getToken === undefined ? { token: tokenOf(42) } : {};
    this.client = new Client({ host: { ...this.host(), ...(whose && { whose }) }, backoffMs: [1, 5], ...token, ...options });
  }

  /** The renderer dies: nothing of the tab runs any more, the browser lets go of what it held. */
  kill(): void {
    this.alive = false;
    for (const socket of [...this.sockets]) socket.end(1006);
    for (const channel of this.open) channel.close();
    this.world.locks.gone(this);
  }

  happen(name: string): void {
    this.window.dispatchEvent(new Event(name));
  }

  private host(): Host {
    const { world } = this;
    const tab = this as Tab;
    return {
      now: () => performance.now(),
      random: () => 0.5,
      id: () => `tab${this.number}x${++this.ids}`,
      WebSocket: class extends FakeSocket {
        constructor(readonly address: string, offered: string[]) {
          super(world, tab, offered);
        }
      } as unknown as typeof WebSocket,
      indexedDB,
      locks: {
        request: (name: string, options: object, got: (lock: unknown) => unknown) =>
          world.locks.request(tab, name, options as { signal?: AbortSignal }, got),
      } as unknown as LockManager,
      BroadcastChannel: class extends FakeChannel {
        constructor(name: string) {
          super(world, tab, name);
        }
      } as unknown as typeof BroadcastChannel,
      events: [this.window],
      visible: () => true,
      base: "http://server.test/page",
    };
  }
}

export class FakeSocket {
  readyState = 0;
  binaryType = "";
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;

  constructor(private readonly world: World, private readonly tab: Tab, private readonly offered: string[]) {
    tab.sockets.add(this);
    world.offers.push(offered);
    setTimeout(() => {
      if (this.readyState !== 0) return;
      if (!world.reachable) return this.end(1006);
      this.readyState = 1;
      world.opened(this, tab);
      this.onopen?.();
    });
  }

  get protocol(): string {
    const { protocol } = this.world;
    return protocol === ZSTD && !this.offered.includes(ZSTD) ? "huahuo.v1" : protocol;
  }

  send(text: string): void {
    const model = this.world.connections.find(({ socket }) => socket === this)?.model;
    if (!model) return;
    setTimeout(() => {
      model.take(text).forEach((frame) => this.deliver(frame));
      this.world.pump();
    });
  }

  deliver(frame: unknown): void {
    const text = JSON.stringify(frame);
    const compressed = this.protocol === ZSTD && (frame as { type: string }).type === "events";
    const data = compressed ? this.world.compress(text) : text;
    setTimeout(() => {
      if (this.readyState === 1 && this.tab.alive) this.onmessage?.({ data });
    });
  }

  close(): void {
    this.end(1000);
  }

  end(code: number, goaway = false): void {
    if (this.readyState === 3) return;
    if (goaway) this.onmessage?.({ data: JSON.stringify({ type: "goaway", code, reason: "" }) });
    this.readyState = 3;
    this.world.closed(this);
    this.tab.sockets.delete(this);
    setTimeout(() => {
      if (this.tab.alive) this.onclose?.({ code, reason: "" });
    });
  }
}

class FakeChannel {
  onmessage: ((event: { data: unknown }) => void) | null = null;

  constructor(private readonly world: World, private readonly tab: Tab, readonly name: string) {
    world.channels.add(this);
    tab.open.add(this);
  }

  postMessage(message: unknown): void {
    if (!this.tab.alive) return;
    const data = structuredClone(message);
    for (const other of this.world.channels) {
      if (other === this || other.name !== this.name) continue;
      setTimeout(() => {
        if (other.tab.alive && this.world.channels.has(other)) other.onmessage?.({ data });
      });
    }
  }

  close(): void {
    this.world.channels.delete(this);
  }
}

interface Waiting {
  readonly tab: Tab;
  readonly name: string;
  readonly run: () => void;
}

class Locks {
  private readonly held = new Map<string, { tab: Tab; release: () => void }>();
  private queue: Waiting[] = [];

  request(tab: Tab, name: string, { signal }: { signal?: AbortSignal }, got: (lock: unknown) => unknown): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        tab, name,
        run: () => {
          const release = () => {
            this.held.delete(name);
            this.next(name);
          };
          this.held.set(name, { tab, release });
          void Promise.resolve(got({ name })).then(resolve, reject).finally(() => {
            if (this.held.get(name)?.release === release) release();
          });
        },
      };
      signal?.addEventListener("abort", () => {
        if (!this.queue.includes(waiting)) return;
        this.queue = this.queue.filter((one) => one !== waiting);
        reject(signal.reason as Error);
      });
      this.queue.push(waiting);
      setTimeout(() => this.next(name));
    });
  }

  gone(tab: Tab): void {
    this.queue = this.queue.filter((one) => one.tab !== tab);
    for (const { tab: owner, release } of [...this.held.values()]) if (owner === tab) release();
  }

  private next(name: string): void {
    if (this.held.has(name)) return;
    const waiting = this.queue.find((one) => one.name === name);
    if (!waiting) return;
    this.queue = this.queue.filter((one) => one !== waiting);
    waiting.run();
  }
}
