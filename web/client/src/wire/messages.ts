/** Messages between a tab and the connection's owner (the same or another tab). Types only. */

import type { ErrorData } from "../model/errors.js";
import type { ListPlace } from "../model/lists.js";
import type { ListChange } from "../session/lists.js";
import type { After, Check, Cursor, Item, Outcome, Reply, State, Status } from "../model/model.js";

/** From a tab. */
export type TabMessage =
  | { readonly do: "attach"; readonly reader: string; readonly stream: string; readonly start: After; readonly cursor: Cursor | null }
  | { readonly do: "detach"; readonly reader: string }
  /** The reader has processed everything up to `seq`, and is free for the next item. */
  | { readonly do: "done"; readonly reader: string; readonly era: number; readonly seq: number }
  | { readonly do: "command"; readonly id: string; readonly text: string }
  | { readonly do: "forget"; readonly id: string }
  | { readonly do: "follow"; readonly reader: string; readonly list: string; readonly fields: object; readonly limit: number; readonly place: ListPlace | null }
  | { readonly do: "present"; readonly reader: string; readonly data: unknown }
  /** The reader of a list has applied what came up to `position`. */
  | { readonly do: "applied"; readonly reader: string; readonly position: number }
  /** The connection should be checked. */
  | { readonly do: "wake" };

/** A state as data. */
export type StateData = Exclude<State, { name: "stopped" }> | { readonly name: "stopped"; readonly error: ErrorData };

/** To a tab. */
export type EngineMessage =
  | { readonly is: "item"; readonly reader: string; readonly era: number; readonly item: Item; readonly check?: Check | undefined }
  | { readonly is: "checked"; readonly reader: string; readonly check: Check }
  | { readonly is: "placed"; readonly reader: string; readonly cursor: Cursor; readonly outcome: Outcome }
  | { readonly is: "ended"; readonly reader: string; readonly error: ErrorData }
  | { readonly is: "lost"; readonly reader: string }
  | { readonly is: "list"; readonly reader: string; readonly change: ListChange }
  | { readonly is: "reached"; readonly reader: string; readonly position: number }
  | { readonly is: "followed"; readonly reader: string; readonly seq: number; readonly state?: Record<string, unknown>; readonly patch?: Record<string, unknown> }
  | { readonly is: "reply"; readonly id: string; readonly reply?: Reply; readonly error?: ErrorData }
  | { readonly is: "state"; readonly state: StateData }
  | { readonly is: "status"; readonly status: Status };
