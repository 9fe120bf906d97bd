/**
 * `huahuo-client/core`: the protocol alone. `Engine` is a session with its WebSocket: resume, acks,
 * commands once, back-off, token renewal, dead-socket detection. `Session` is the same without a socket,
 * for one of your own. What a page needs beyond that (tabs, IndexedDB, handlers) is in `huahuo-client`.
 */

export { CLOSES, type ErrorCode, ruleOf, type Rule } from "./codes.js";
export { Engine, type EngineOptions, SUBPROTOCOL } from "./engine.js";
export { type ClientErrorCode, HuahuoError } from "./errors.js";
export { browserHost, type Host } from "./host.js";
export type { Decode, Decoder, DictionaryPlace } from "./inflow.js";
export type { EngineMessage, StateData, TabMessage } from "./messages.js";
export type * from "./model.js";
export { Retry, type Verdict } from "./retry.js";
export { type Happening, Session, type SessionOptions } from "./session.js";
