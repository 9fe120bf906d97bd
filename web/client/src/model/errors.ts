/** Errors of the client. One class, whose `code` says which error it is. */

import type { ErrorCode } from "./codes.js";

/**
 * - `stopped`: the client does not reconnect any more; `closeCode` says why (0: the application closed it)
 * - `queue_full`: too many commands wait for an answer
 * - `stream_denied`: this user may not read the stream, or not any longer
 * - `not_subscribed`: this tab has no subscription to the stream of the awaited event; the command itself
 *   was executed and `reply` holds its answer
 * - `log_replaced`: the server's log was replaced, so the awaited event may never come
 * - `aborted`: the application ended the waiting; a command may have been executed
 * - `misuse`: the application used this package in a way that cannot work
 * - `handler_failed`: a handler threw `cause`
 * - `storage_failed`: a cursor cannot be stored
 * - `protocol_violation`: the server violated the protocol; the connection is closed
 * - every other code is the server's refusal of a command
 */
export type ClientErrorCode =
  | "stopped" | "queue_full" | "stream_denied" | "not_subscribed" | "log_replaced" | "aborted"
  | "misuse" | "handler_failed" | "storage_failed" | "protocol_violation" | ErrorCode;

/** A text, or what an application says with a code of its own. */
export type Details = string | Readonly<Record<string, unknown>>;

export interface ErrorFacts {
  readonly details?: Details;
  readonly closeCode?: number;
  readonly reply?: unknown;
  readonly cause?: unknown;
}

/** See {@link ClientErrorCode}. Its fields are kept when it is sent to another tab. */
export class HuahuoError extends Error {
  override readonly name = "HuahuoError";
  readonly details: Details;
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
  readonly details: Details;
  readonly closeCode: number;
}

export const toData = ({ code, message, details, closeCode }: HuahuoError): ErrorData => ({
  code, message, details, closeCode,
});

export const fromData = (data: ErrorData): HuahuoError => new HuahuoError(data.code, data.message, data);

export const misuse = (message: string): HuahuoError => new HuahuoError("misuse", message);
