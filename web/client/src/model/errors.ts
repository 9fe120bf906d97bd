/** What the client throws. One class; `code` says which error it is. */

import type { ErrorCode } from "./codes.js";

/**
 * - `stopped`: the client will not come back by itself; `closeCode` says why (0: the application closed it)
 * - `queue_full`: too many commands wait for an answer
 * - `stream_denied`: the stream may not be read (any more)
 * - `not_subscribed`: nothing in this tab reads the stream that was to be waited for; the command itself
 *   was executed and `reply` holds its answer
 * - `log_replaced`: the server's log was replaced: the awaited event may never come
 * - `aborted`: the application gave up waiting; a command may have been executed
 * - `misuse`: the application used this package in a way that cannot work
 * - `handler_failed`: a handler threw; `cause` is what it threw
 * - `storage_failed`: what was processed cannot be remembered
 * - `protocol_violation`: the server broke the protocol; the connection is given up
 * - every other code is the server's refusal of a command
 */
export type ClientErrorCode =
  | "stopped" | "queue_full" | "stream_denied" | "not_subscribed" | "log_replaced" | "aborted"
  | "misuse" | "handler_failed" | "storage_failed" | "protocol_violation" | ErrorCode;

export interface ErrorFacts {
  readonly details?: string;
  readonly closeCode?: number;
  readonly reply?: unknown;
  readonly cause?: unknown;
}

/** See {@link ClientErrorCode}. Its fields survive the way from one tab to another. */
export class HuahuoError extends Error {
  override readonly name = "HuahuoError";
  readonly details: string;
  readonly closeCode: number;
  readonly reply: unknown;

  constructor(
    readonly code: ClientErrorCode | (string & {}),
    message: string,
    facts: ErrorFacts = {},
  ) {
    super(message, facts.cause === undefined ? {} : { cause: facts.cause });
    this.details = facts.details ?? "";
    this.closeCode = facts.closeCode ?? 0;
    this.reply = facts.reply;
  }
}

/** An error as data, for a message between tabs. */
export interface ErrorData {
  readonly code: string;
  readonly message: string;
  readonly details: string;
  readonly closeCode: number;
}

export const toData = ({ code, message, details, closeCode }: HuahuoError): ErrorData => ({
  code, message, details, closeCode,
});

export const fromData = (data: ErrorData): HuahuoError => new HuahuoError(data.code, data.message, data);

export const misuse = (message: string): HuahuoError => new HuahuoError("misuse", message);
