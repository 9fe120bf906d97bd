/** The client as an application sees it. */

import { socketUrl } from "../wire/address.js";
import { checkSubscription, encodeCommand } from "./checks.js";
import { type CursorStore, IndexedDbCursors, MemoryCursors } from "./cursors.js";
import { Engine } from "../session/engine.js";
import { fromData, HuahuoError, misuse } from "../model/errors.js";
import { browserHost, type Host } from "../session/host.js";
import { HttpSocket, whose } from "./http_socket.js";
import type { EngineMessage, StateData, TabMessage } from "../wire/messages.js";
import { userOf } from "./identity.js";
import { iterate } from "./iterate.js";
import { watchJob, type WatchedJob } from "./job.js";
import type { At, Commands, Cursor, Item, Language, Reply, State, Status, StreamEvent } from "../model/model.js";
import type { ClientOptions, Rest, SendOptions, Undeclared } from "./options.js";
import { watchPage } from "./page.js";
import { guarded, type Observable, Subject } from "../model/observable.js";
import { abortable, Outbox } from "../session/outbox.js";
import { Retry } from "../session/retry.js";
import { type Source, type SubscribeOptions, Subscription } from "./subscription.js";
import { type Applied, Tabs } from "./tabs.js";
import { otherUser, TokenSource } from "./token.js";

/** Where a loop over a stream begins. */
export type Place = Pick<SubscribeOptions, "after" | "tabs">;

const ID_CHARS_MAX = 64;
const ignore = () => undefined; // the loop itself throws the error

export class Client {
  /** The connection's state as an observable: `state.value`, `state.subscribe(…)`. */
  readonly state: Observable<State>;
  /** Whether this tab owns the connection that all tabs share. */
  readonly owner: Observable<boolean>;
  private readonly states = new Subject<State>({ name: "connecting" });
  private readonly owning = new Subject(false);
  private readonly host: Host;
  private readonly url: string;
  private readonly page: string;
  private store: CursorStore;
  private scope = "";
  /** Whose cursors, and tabs, these are: what the token says, else what the server says. */
  private user = "";
  private client = "";
  private readonly token: TokenSource;
  private readonly opened: Promise<void>;
  private isOpen!: () => void;
  private tabs: Tabs | null = null;
  private engine: Engine | null = null;
  private suspended = false;
  private count = 0;
  private language: Language | undefined;
  private readonly subscriptions = new Set<Subscription>();
  private readonly readers = new Map<string, Subscription>();
  private readonly outbox: Outbox;
  private readonly listeners = new Set<(status: Status) => void>();
  private readonly over = new AbortController();

  /** @throws HuahuoError `misuse`: the options cannot work */
  constructor(private readonly options: ClientOptions) {
    this.token = new TokenSource(options);
    this.language = options.language;
    const ask = (...request: Parameters<typeof fetch>) => fetch(...request);
    this.host = options.host ?? {
      ...browserHost(),
      overHttp: (url) => new HttpSocket(url, ask) as unknown as WebSocket,
      whose: (url, token) => whose(url, token, ask),
    };
    if (typeof this.host.WebSocket !== "function") throw misuse("there is no WebSocket here; the client runs in a browser");
    this.url = socketUrl(options.url, this.host.base);
    this.page = this.host.id();
    this.state = this.states;
    this.owner = this.owning;
    this.store = options.cursors ?? (this.host.indexedDB ? new IndexedDbCursors() : new MemoryCursors(this.page));
    this.outbox = new Outbox(options.commandsMax ?? 1000, (message) => this.up(message));
    this.opened = new Promise((resolve) => (this.isOpen = resolve));
    this.open().catch((error: HuahuoError) => this.stop(error));
  }

  // -- streams ------------------------------------------------------------------------------------

  /**
   * Read a stream with handlers.
   *
   * @throws HuahuoError `misuse`, `stopped`
   */
  subscribe(stream: string, options: SubscribeOptions): Subscription {
    checkSubscription(stream, options);
    this.raiseIfStopped();
    const subscription = new Subscription(stream, options, this.source);
    this.subscriptions.add(subscription);
    if (!this.suspended) subscription.resume();
    return subscription;
  }

  /**
   * Read a stream in a loop: runs of events, snapshots and skips. An item counts as processed when the loop
   * asks for the next one.
   */
  items(stream: string, options: Place = {}): AsyncGenerator<Item, void> {
    return iterate((onItem) => this.subscribe(stream, { ...options, onItem, onError: ignore }));
  }

  /** As `items`, with single events. It omits snapshots and skips: use `items` to see them. */
  events(stream: string, options: Place = {}): AsyncGenerator<StreamEvent, void> {
    return iterate((onEvent) => this.subscribe(stream, { ...options, onEvent, onError: ignore }));
  }

  /** A job of the service, `job/<id>`: its progress as an observable, and `cancel()`. Close it with `close()`. */
  job(id: number): WatchedJob {
    return watchJob(this, id);
  }

  /**
   * Ask the server to say texts for people in this language from now on. The tab that holds the connection
   * decides, so call it in every tab of a user.
   */
  speak(language: Language): void {
    this.language = language;
    void this.engine?.speak(language).catch(ignore); // without a token the engine says why elsewhere
  }

  // -- commands -----------------------------------------------------------------------------------

  /**
   * Send a command (or query) and wait for its reply, across reconnects and while offline. It is executed
   * once.
   *
   * @throws HuahuoError the server's refusal by its code, `queue_full`, `stopped`, `aborted`, `misuse`;
   *   with `applied` also `not_subscribed`, `log_replaced`, `stream_denied`
   */
  send<A extends keyof Commands>(
    action: A, ...rest: Rest<Commands[A]["fields"]>
  ): Promise<Reply & Commands[A]["reply"]>;
  send<A extends string>(
    action: Undeclared<A>, fields?: object, options?: SendOptions,
  ): Promise<Reply & Record<string, unknown>>;
  async send(action: string, fields: object = {}, options: SendOptions = {}): Promise<Reply> {
    this.raiseIfStopped();
    const { signal, id = `${this.page}-${++this.count}` } = options;
    const reply = await this.outbox.add(id, encodeCommand(action, id, fields), signal);
    if (options.applied && reply.at) {
      try {
        await abortable(this.applied(reply.at), signal);
      } catch (error) {
        throw error instanceof HuahuoError
          ? new HuahuoError(error.code, error.message, { ...error, reply })
          : error;
      }
    }
    return reply;
  }

  /**
   * The replies of a query that answers in pages, until `next` is null:
   * `for await (const { data } of client.pages("get_all_emails", { limit: 1000 }))`. Throws as `send`.
   */
  pages<A extends keyof Commands>(action: A, fields: Commands[A]["fields"]): AsyncGenerator<Reply & Commands[A]["reply"], void>;
  pages<A extends string>(action: Undeclared<A>, fields?: object): AsyncGenerator<Reply & Record<string, unknown>, void>;
  async *pages(action: string, fields: object = {}): AsyncGenerator<Reply & Record<string, unknown>, void> {
    let page = await this.send(action, fields);
    yield page;
    while (page["next"] !== null && page["next"] !== undefined) {
      page = await this.send(action, { ...fields, before: page["next"] });
      yield page;
    }
  }

  /**
   * Read your writes: wait until every subscription of this tab to that stream has handled the event.
   * Inside a handler of the same stream, waiting for it is a deadlock.
   *
   * @throws HuahuoError `not_subscribed`, `log_replaced`, `stream_denied`, `stopped`
   */
  async applied(at: At): Promise<void> {
    this.raiseIfStopped();
    const readers = [...this.subscriptions].filter((one) => one.stream === at.stream);
    if (readers.length === 0) {
      throw new HuahuoError("not_subscribed", `${at.stream}: nothing in this tab reads it`);
    }
    await Promise.all(readers.map((one) => one.reached(at.seq)));
  }

  // -- life ---------------------------------------------------------------------------------------

  /** Listen to news besides the state. Returns a function that ends that. */
  onStatus(listener: (status: Status) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Check the connection now: reconnect without delay, or probe whether it is alive. */
  wake(): void {
    this.up({ do: "wake" });
  }

  /** Ack what was processed and stop. Pending calls fail with `stopped`. Other tabs continue. */
  close(): void {
    if (this.states.value.name === "stopped") return;
    for (const subscription of [...this.subscriptions]) subscription.close();
    this.stop(new HuahuoError("stopped", "the client was closed by the application"));
  }

  /** @throws HuahuoError `misuse`: the token cannot be used */
  private async open(): Promise<void> {
    const { host } = this;
    const retry = new Retry(() => host.random(), ...(this.options.backoffMs ?? []));
    this.user = await userOf(this.token, host, this.url, retry, this.over.signal, this.states);
    if (this.over.signal.aborted) return;
    // If nobody knows whose page this is, it shares nothing with others.
    if (!this.user && !this.options.cursors) this.store = new MemoryCursors(this.page);
    this.scope = `${new URL(this.url).host}/${this.user || this.page}`;
    const id = await this.store.identity(this.scope).catch((error: unknown) => {
      this.tell({ type: "problem", code: "storage_failed", message: String(error) });
      this.store = new MemoryCursors(this.page);
      return this.store.identity(this.scope);
    });
    if (this.over.signal.aborted) return;
    const { client, share = true } = this.options;
    if (share && this.user && Tabs.possible(host)) this.tabs = this.makeTabs();
    // Without sharing, each page needs a client id of its own, so that a second page does not take over.
    this.client = client || (this.tabs ? id : `${id}-${this.page}`.slice(0, ID_CHARS_MAX));
    watchPage(host, this.over.signal, {
      wake: () => this.wake(),
      suspend: () => this.suspend(),
      comeBack: () => this.comeBack(),
    });
    this.isOpen();
    this.join();
  }

  private join(): void {
    if (this.tabs) this.tabs.join();
    else this.own();
  }

  private makeTabs(): Tabs {
    return new Tabs({
      host: this.host,
      scope: this.scope,
      tab: this.page,
      own: () => this.own(),
      follow: (state) => {
        this.changed(state);
        this.again();
      },
      down: (message) => this.heard(message),
      up: (tab, message) => this.engine?.receive(tab, message),
      gone: (tab) => this.engine?.forgetTab(tab),
      applied: ({ stream, log, seq }: Applied) => {
        for (const one of this.subscriptions) if (one.stream === stream) one.elsewhere({ log, seq });
      },
      state: () => this.engine?.state ?? { name: "connecting" },
    });
  }

  /** Make this tab the owner of the connection. */
  private own(): void {
    this.engine = new Engine({
      host: this.host,
      url: this.url,
      client: this.client,
      token: (fresh) => this.token.current(fresh),
      renewable: this.token.renewable,
      window: this.options.window ?? 512,
      backoffMs: this.options.backoffMs ?? [500, 20_000],
      decoder: this.options.decoder,
      deliver: (tab, message) => {
        if (this.tabs) this.tabs.down(tab, message);
        else this.heard(message);
      },
    });
    void this.engine.speak(this.language);
    this.owning.set(true);
    this.again();
    this.engine.start();
  }

  /** Tell a new owner of the connection about this tab's readers and commands. */
  private again(): void {
    for (const subscription of this.subscriptions) subscription.attach();
    this.outbox.again();
  }

  private up(message: TabMessage): void {
    if (this.engine) this.engine.receive(this.page, message);
    else this.tabs?.up(message);
  }

  private heard(message: EngineMessage): void {
    switch (message.is) {
      case "state":
        this.changed(message.state);
        return;
      case "status":
        this.tell(message.status);
        return;
      case "reply":
        this.outbox.answered(message.id, message.error ? fromData(message.error) : (message.reply as Reply));
        return;
      default: {
        const subscription = this.readers.get(message.reader);
        if (subscription) subscription.heard(message);
        else if (message.is === "item") this.up({ do: "detach", reader: message.reader });
      }
    }
  }

  private changed(state: StateData): void {
    if (state.name === "stopped") this.stop(fromData(state.error));
    else if (state.name === "online" && this.isOther(state.user)) this.stop(otherUser());
    else if (state.name !== "connecting" || this.states.value.name !== "connecting") this.states.set(state);
  }

  /** Whether the server says another user than at the start, which a token that names nobody cannot show. */
  private isOther({ user_id }: { user_id: unknown }): boolean {
    return !!this.user && !this.token.claims?.user && this.user !== String(user_id);
  }

  private stop(error: HuahuoError): void {
    if (this.over.signal.aborted) return;
    this.over.abort();
    this.states.set({ name: "stopped", error });
    for (const subscription of [...this.subscriptions]) subscription.fail(error);
    this.outbox.fail(error);
    this.leave();
    this.isOpen();
  }

  private leave(): void {
    this.engine?.stop();
    this.engine = null;
    this.tabs?.leave();
    this.owning.set(false);
  }

  // -- the page -----------------------------------------------------------------------------------

  private suspend(): void {
    if (this.suspended) return;
    this.suspended = true;
    for (const subscription of this.subscriptions) subscription.pause();
    this.leave();
  }

  private comeBack(): void {
    if (!this.suspended) return this.wake();
    this.suspended = false;
    this.states.set({ name: "connecting" });
    for (const subscription of this.subscriptions) subscription.resume();
    this.join();
  }

  private raiseIfStopped(): void {
    const { value } = this.states;
    if (value.name === "stopped") throw value.error;
  }

  private tell(status: Status): void {
    for (const listener of [...this.listeners]) guarded(() => listener(status));
  }

  private readonly source: Source = (() => {
    const client = this as Client;
    return {
      get store() {
        return client.store;
      },
      get locks() {
        return client.host.locks;
      },
      key: async (stream: string) => {
        await client.opened;
        return `${client.scope} ${stream}`;
      },
      newReader: (subscription: Subscription) => {
        const reader = `${client.page}.${++client.count}`;
        for (const [old, known] of client.readers) if (known === subscription) client.readers.delete(old);
        client.readers.set(reader, subscription);
        return reader;
      },
      send: (message: TabMessage) => client.up(message),
      applied: ({ stream }: Subscription, cursor: Cursor) => client.tabs?.tellApplied({ stream, ...cursor }),
      problem: (code: string, message: string) => client.tell({ type: "problem", code, message }),
      closed: (subscription: Subscription) => {
        client.subscriptions.delete(subscription);
        for (const [reader, known] of client.readers) if (known === subscription) client.readers.delete(reader);
      },
    };
  })();
}
