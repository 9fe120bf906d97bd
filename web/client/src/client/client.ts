/** The client as an application sees it. */

import { checkSubscription, encodeCommand } from "./checks.js";
import { Connection } from "./connection.js";
import { HuahuoError } from "../model/errors.js";
import { iterate } from "./iterate.js";
import { watchJob, type WatchedJob } from "./job.js";
import type { At, Commands, Item, Language, Reply, Status, StreamEvent } from "../model/model.js";
import type { Rest, SendOptions, Undeclared } from "./options.js";
import { EntityState } from "./entity.js";
import { LIMIT_MAX, LiveList, type Present } from "./list.js";
import type { FieldsOf, Lists, RowOf, UndeclaredList } from "../model/lists.js";
import { abortable } from "../session/outbox.js";
import { type SubscribeOptions, Subscription } from "./subscription.js";

/** Where a loop over a stream begins. */
export type Place = Pick<SubscribeOptions, "after" | "tabs">;

export interface ListOptions {
  /** At most so many rows, up to 1,000 (100). */
  readonly limit?: number;
}

const ignore = () => undefined; // the loop itself throws the error

export class Client extends Connection {
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
    const { signal, optimistic, id = `${this.page}-${++this.count}` } = options;
    const message = encodeCommand(action, id, fields);
    const guessed = optimistic ? [...this.lists] : [];
    if (optimistic) for (const list of guessed) list.guess(id, optimistic);
    let position = 0;
    let reply: Reply;
    try {
      reply = await this.outbox.add(id, message, signal);
      position = reply.at?.position ?? 0;
    } finally {
      for (const list of guessed) list.settle(id, position);
    }
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
   * Read your writes: wait until every subscription of this tab to that stream has handled the event, and
   * every live list of this tab shows the commit.
   * Inside a handler of the same stream, waiting for it is a deadlock.
   *
   * @throws HuahuoError `not_subscribed`, `log_replaced`, `stream_denied`, `stopped`
   */
  async applied(at: At): Promise<void> {
    this.raiseIfStopped();
    const readers = [...this.subscriptions].filter((one) => one.stream === at.stream);
    const lists = at.position ? [...this.lists] : [];
    await Promise.all(lists.map((one) => one.has(at.position ?? 0)));
    if (readers.length === 0 && lists.length === 0) {
      throw new HuahuoError("not_subscribed", `${at.stream}: nothing in this tab reads it`);
    }
    await Promise.all(readers.map((one) => one.reached(at.seq)));
  }

  // -- lists --------------------------------------------------------------------------------------

  /**
   * Follow a live list: its first `limit` rows (100 without it), as long as it is not closed. `fields` are those that
   * the application's list has.
   *
   * @throws HuahuoError `stopped`
   */
  list<N extends keyof Lists>(name: N, fields: FieldsOf<N>, options?: ListOptions): LiveList<RowOf<N>>;
  list<Row = unknown>(name: UndeclaredList<string>, fields?: object, options?: ListOptions): LiveList<Row>;
  list(name: string, fields: object = {}, options: ListOptions = {}): LiveList<unknown> {
    this.raiseIfStopped();
    const list = new LiveList<unknown>(name, fields, Math.min(options.limit ?? 100, LIMIT_MAX), this.listSource);
    this.lists.add(list);
    return list;
  }

  /**
   * The state of an entity (`order/7`), or of any stream that has a snapshot, folded by the server. Close it with
   * `close()`. With the types of the application: `client.entity<States["order"]>("order/7")`.
   *
   * @throws HuahuoError `stopped`
   */
  entity<S = Record<string, unknown>>(stream: string): EntityState<S> {
    this.raiseIfStopped();
    const entity = new EntityState<S>(stream, this.entitySource);
    this.entities.add(entity as EntityState<unknown>);
    return entity;
  }

  /**
   * Who follows the presence of a stream now, this page too: a row for each connection. All tabs are one
   * connection. `present(data)` changes what the others are shown of it.
   *
   * @throws HuahuoError `stopped`
   */
  presence<Data = unknown>(stream: string, data: Data): LiveList<Present<Data>> {
    this.raiseIfStopped();
    const list = new LiveList<Present<Data>>(stream, { data }, -1, this.listSource);
    this.lists.add(list as LiveList<unknown>);
    return list;
  }

  /** The user signs out: forget the rows that were kept for the next page, and stop. */
  async signOut(): Promise<void> {
    const prefix = await this.listKey();
    for (const list of this.lists) list.forget();
    this.close();
    await this.store.forget?.(prefix);
  }

  // -- life ---------------------------------------------------------------------------------------

  /** Listen to news besides the state. Returns a function that ends that. */
  onStatus(listener: (status: Status) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Ack what was processed and stop. Pending calls fail with `stopped`. Other tabs continue. */
  close(): void {
    if (this.states.value.name === "stopped") return;
    for (const one of [...this.subscriptions, ...this.lists, ...this.entities]) one.close();
    this.stop(new HuahuoError("stopped", "the client was closed by the application"));
  }
}
