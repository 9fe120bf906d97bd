/** What the session tells its shell, for the application. It mirrors `transport/client/model.py`. */

import type { HuahuoError } from "../model/errors.js";
import type { ListHappening } from "./lists.js";
import type { Check, Cursor, Outcome, Reply, State, Status } from "../model/model.js";

export type Happening =
  | ListHappening
  /** `take` has an item for this reader. */
  | { readonly is: "readable"; readonly reader: string }
  /** The reader is placed at `cursor`. Events after it follow. */
  | { readonly is: "placed"; readonly reader: string; readonly cursor: Cursor; readonly outcome: Outcome }
  /** The reader's cursor has this check. */
  | { readonly is: "checked"; readonly reader: string; readonly check: Check }
  /** The reader was removed because of an error. */
  | { readonly is: "ended"; readonly reader: string; readonly error: HuahuoError }
  /** The reader was too slow and was removed. It may attach again at its cursor. */
  | { readonly is: "lost"; readonly reader: string }
  /** The final answer to a command. */
  | { readonly is: "reply"; readonly id: string; readonly reply: Reply | HuahuoError }
  | { readonly is: "state"; readonly state: State }
  | { readonly is: "status"; readonly status: Status };
