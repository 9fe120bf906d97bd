/** Who holds the connection of all tabs of a user, and what comes from it for this one. */

import { socketUrl } from "../wire/address.js";
import { type CursorStore, IndexedDbCursors, MemoryCursors } from "./cursors.js";
import { Engine } from "../session/engine.js";
import { fromData, type HuahuoError, misuse } from "../model/errors.js";
import { browserHost, type Host } from "../session/host.js";
import { HttpSocket, whose } from "./http_socket.js";
import type { EngineMessage, StateData, TabMessage } from "../wire/messages.js";
import { userOf } from "./identity.js";
import type { Cursor, Language, Reply, State, Status } from "../model/model.js";
import type { ClientOptions } from "./options.js";
import { Lists } from "../session/lists.js";
import type { EntitySource, EntityState } from "./entity.js";
import type { Kept, ListSource, LiveList } from "./list.js";
import { watchPage } from "./page.js";
import { guarded, type Observable, Subject } from "../model/observable.js";
import { Outbox } from "../session/outbox.js";
import { Retry } from "../session/retry.js";
import type { Source, Subscription } from "./subscription.js";
import { type Applied, Tabs } from "./tabs.js";
import { otherUser, TokenSource } from "./token.js";

const ID_CHARS_MAX = 64;

type Reader = Subscription | LiveList<unknown> | EntityState<unknown>;

/** Its fields that are declared alone get their values in the constructor, and take no room in the bundle. */
export class Connection {
  protected readonly states = new Subject<State>({ name: "connecting" });
  /** The connection's state as an observable: `state.value`, `state.subscribe(…)`. */
  readonly state: Observable<State> = this.states;
  private readonly owning = new Subject(false);
  /** Whether this tab owns the connection that all tabs share. */
  readonly owner: Observable<boolean> = this.owning;
  private declare readonly host: Host;
  private declare readonly url: string;
  protected declare readonly page: string;
  protected declare store: CursorStore;
  private scope = "";
  /** Whose cursors, and tabs, these are: what the token says, else what the server says. */
  private user = "";
  private client = "";
  private declare readonly token: TokenSource;
  private isOpen!: () => void;
  private readonly opened = new Promise<void>((resolve) => (this.isOpen = resolve));
  private tabs: Tabs | null = null;
  protected engine: Engine | null = null;
  protected suspended = false;
  protected count = 0;
  protected language: Language | undefined;
  protected readonly subscriptions = new Set<Subscription>();
  protected readonly lists = new Set<LiveList<unknown>>();
  protected readonly entities = new Set<EntityState<unknown>>();
  private readonly readers = new Map<string, Reader>();
  protected declare readonly outbox: Outbox;
  protected readonly listeners = new Set<(status: Status) => void>();
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
    this.store = options.cursors ?? (this.host.indexedDB ? new IndexedDbCursors() : new MemoryCursors(this.page));
    this.outbox = new Outbox(options.commandsMax ?? 1000, (message) => this.up(message));
    this.open().catch((error: HuahuoError) => this.stop(error));
  }

  /** Check the connection now: reconnect without delay, or probe whether it is alive. */
  wake(): void {
    this.up({ do: "wake" });
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
      lists: new Lists(),
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
    for (const one of [...this.subscriptions, ...this.lists, ...this.entities]) one.attach();
    this.outbox.again();
  }

  protected up(message: TabMessage): void {
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
        const reader = this.readers.get(message.reader);
        if (reader) reader.heard(message);
        else if (message.is === "item" || message.is === "list") this.up({ do: "detach", reader: message.reader });
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

  protected stop(error: HuahuoError): void {
    if (this.over.signal.aborted) return;
    this.over.abort();
    this.states.set({ name: "stopped", error });
    for (const one of [...this.subscriptions, ...this.lists, ...this.entities]) one.fail(error);
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
    for (const one of [...this.lists, ...this.entities]) {
      one.detach();
      one.keep();
    }
    this.leave();
  }

  private comeBack(): void {
    if (!this.suspended) return this.wake();
    this.suspended = false;
    this.states.set({ name: "connecting" });
    for (const subscription of this.subscriptions) subscription.resume();
    this.join();
  }

  protected raiseIfStopped(): void {
    const { value } = this.states;
    if (value.name === "stopped") throw value.error;
  }

  /** Its readers get nothing any more. */
  private forget(one: Reader): void {
    for (const [reader, known] of this.readers) if (known === one) this.readers.delete(reader);
  }

  private newReader(one: Reader): string {
    const reader = `${this.page}.${++this.count}`;
    this.forget(one);
    this.readers.set(reader, one);
    return reader;
  }

  /** The key of what is kept of a list; without a list, what all such keys begin with. */
  protected async listKey(list = "", fields: object = {}): Promise<string> {
    await this.opened;
    return `${this.scope} list ${list && JSON.stringify([list, fields])}`;
  }

  protected readonly entitySource: EntitySource = {
    newReader: (entity) => this.newReader(entity),
    send: (message) => this.up(message),
    closed: (entity) => {
      this.entities.delete(entity);
      this.forget(entity);
    },
  };

  protected readonly listSource: ListSource = {
    newReader: (list) => this.newReader(list),
    send: (message) => this.up(message),
    load: async (list, fields) => {
      const key = await this.listKey(list, fields);
      return ((await this.store.recall?.(key)) as Kept | undefined) ?? null;
    },
    save: async (list, fields, kept) => this.store.remember?.(await this.listKey(list, fields), kept),
    closed: (list) => {
      this.lists.delete(list);
      this.forget(list);
    },
  };

  private tell(status: Status): void {
    for (const listener of [...this.listeners]) guarded(() => listener(status));
  }

  protected readonly source: Source = (() => {
    const client = this as Connection;
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
      newReader: (subscription: Subscription) => client.newReader(subscription),
      send: (message: TabMessage) => client.up(message),
      applied: ({ stream }: Subscription, cursor: Cursor) => client.tabs?.tellApplied({ stream, ...cursor }),
      problem: (code: string, message: string) => client.tell({ type: "problem", code, message }),
      closed: (subscription: Subscription) => {
        client.subscriptions.delete(subscription);
        client.forget(subscription);
      },
    };
  })();
}
