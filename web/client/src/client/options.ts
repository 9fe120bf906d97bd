/** What an application says when it makes a client, or sends a command. */

import type { Host } from "../session/host.js";
import type { Decoder } from "../wire/inflow.js";
import type { CursorStore } from "./cursors.js";
import type { Draft } from "./list.js";
import type { Commands, Language } from "../model/model.js";

export interface ClientOptions {
  /** The server, or its mount in another application: `https://…`, a path, or `wss://…`. Default: the page's server. */
  readonly url?: string | URL;
  /** A token that is never renewed. When it expires, the client stops. */
  readonly token?: string;
  /** Returns a token. Called again when the token is about to expire. Give this or `token`. */
  readonly getToken?: () => string | Promise<string>;
  /** Share one connection between all tabs (default true, if the browser supports it). */
  readonly share?: boolean;
  /** Stores cursors. Default: IndexedDB, or memory if the browser forbids IndexedDB. */
  readonly cursors?: CursorStore;
  /** Id of this installation. Default: made once and stored. A second connection with this id takes over. */
  readonly client?: string;
  /** Maximum number of unprocessed events, over all streams and tabs (512). */
  readonly window?: number;
  /** Maximum number of unanswered commands in this tab (1000). */
  readonly commandsMax?: number;
  /** The first and the longest delay before a reconnect, both with full jitter (500, 20000). */
  readonly backoffMs?: readonly [number, number];
  /**
   * Ask the server for compression, and load this at the first compressed message:
   * `() => import("huahuo-client/zstd")`. If it cannot be loaded, or cannot read a message, the client
   * reconnects without compression.
   */
  readonly decoder?: () => Promise<Decoder>;
  /** The language of the server's texts for people (`Client.speak` changes it). Default: its own setting. */
  readonly language?: Language;
  /** Replaces the browser in tests. */
  readonly host?: Host;
}

export interface SendOptions {
  /** Wait until this tab's subscriptions have handled the event that the command caused. */
  readonly applied?: boolean;
  /**
   * Changes each live list of this tab at once, as the command probably will. What it changed is undone when the
   * server's own rows are there, or when the command is refused.
   */
  readonly optimistic?: (draft: Draft) => void;
  /** The command's id. A repeat, even by another page, is not executed again. Default: a new id. */
  readonly id?: string;
  /** Stops the waiting. A command that was sent already may be executed. */
  readonly signal?: AbortSignal;
}

/** The arguments behind an action: its fields may be left out if none of them is needed. */
export type Rest<Fields> = object extends Fields
  ? [fields?: Fields, options?: SendOptions]
  : [fields: Fields, options?: SendOptions];
/** An action that `Commands` does not have: the fields of those that it has are checked. */
export type Undeclared<A extends string> = A extends keyof Commands ? never : A;
