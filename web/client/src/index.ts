/** `huahuo-client`: see the README. */

export { Client, type ClientOptions, type Place, type SendOptions } from "./client.js";
export { type CursorStore, IndexedDbCursors, type IndexedDbOptions, MemoryCursors } from "./cursors.js";
export { type ClientErrorCode, HuahuoError } from "./errors.js";
export type { Decode, Decoder, DictionaryPlace } from "./inflow.js";
export type {
  After, At, Batch, Commands, Cursor, EmailFilter, EmailRow, EmailSort, EventFrame, EventTypes, Item, MailRecord, MailStatus,
  MailType, Outcome, Reply, Skipped, Snapshot, State, Status, StreamEvent, User,
} from "./model.js";
export type { Observable } from "./observable.js";
export type { Commit, Handlers, SubscribeOptions, Subscription } from "./subscription.js";
export { type Fold, type View, watch, type Watched } from "./view.js";
