/**
 * `huahuo-client/core`: the protocol alone. `Engine` is a session with its WebSocket: resume, acks,
 * exactly-once commands, back-off, token renewal, detection of dead sockets. `Session` is the same for a
 * socket of your own. Tabs, IndexedDB and handlers are in `huahuo-client`.
 */

export { CLOSES, type ErrorCode, ruleOf, type Rule } from "./model/codes.js";
export { Engine, type EngineOptions, SUBPROTOCOL } from "./session/engine.js";
export { type ClientErrorCode, HuahuoError } from "./model/errors.js";
export { browserHost, type Host } from "./session/host.js";
export type { Decode, Decoder, DictionaryPlace } from "./wire/inflow.js";
export type { EngineMessage, StateData, TabMessage } from "./wire/messages.js";
export type * from "./model/model.js";
export { Retry, type Verdict } from "./session/retry.js";
export type { Happening } from "./session/happenings.js";
export { Session, type SessionOptions } from "./session/session.js";
