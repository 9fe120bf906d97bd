/** `huahuo-client`: see the README. */

export { Client, type ListOptions, type Place } from "./client/client.js";
export type { ClientOptions, SendOptions } from "./client/options.js";
export { type CursorStore, IndexedDbCursors, type IndexedDbOptions, MemoryCursors } from "./client/cursors.js";
export { type ClientErrorCode, HuahuoError } from "./model/errors.js";
export { cancelJob, hasEnded, type Job, JOB_FOLD, type WatchedJob } from "./client/job.js";
export type { EntityState } from "./client/entity.js";
export type { Draft, ListState, LiveList, Present } from "./client/list.js";
export type { FieldsOf, Lists, RowOf } from "./model/lists.js";
export type { Decode, Decoder, DictionaryPlace } from "./wire/inflow.js";
export type * from "./model/model.js";
export type { Observable } from "./model/observable.js";
export type { Commit, Handlers, SubscribeOptions, Subscription } from "./client/subscription.js";
export { type Fold, type View, watch, type Watched } from "./client/view.js";
export type { Application, TypedClient } from "./client/typed.js";
