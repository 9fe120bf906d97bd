/**
 * Close codes, error codes and what a client does about each. A copy of `transport/protocol/codes.py`, which
 * defines them. A test compares the two. Pure.
 */

/** What a client does after a close. */
export type Rule = "reconnect" | "reconnect_slowly" | "new_token" | "stop";

const R = "reconnect", S = "stop";

/** `transport/protocol/codes.py` says when the server issues each. */
export const CLOSES: readonly (readonly [code: number, name: string, rule: Rule])[] = [
  [1000, "normal", S], [1001, "going_away", R], [1002, "protocol_error", S], [1006, "lost", R],
  [1007, "bad_utf8", S], [1009, "too_large", S], [1011, "server_fault", R], [1012, "restart", R],
  [1013, "try_again_later", R], [4000, "draining", R], [4003, "token_expired", "new_token"],
  [4008, "too_slow", R], [4009, "superseded", S], [4012, "silent", R], [4013, "rate_limited", R],
  [4408, "auth_timeout", R], [4500, "token_invalid", S], [4503, "revoked", S],
  [4504, "too_many_connections", "reconnect_slowly"], [4506, "unsupported_version", S],
  [4507, "forbidden", S],
];

export const LOST = 1006;
export const UNSUPPORTED_VERSION = 4506;
const STOP_FROM = 4500;

/** What a client does after `code`. After unknown codes of newer servers it stops from 4500 on. */
export function ruleOf(code: number): Rule {
  const known = CLOSES.find((fact) => fact[0] === code);
  return known ? known[2] : code >= STOP_FROM ? S : R;
}

/** The name of a close code. */
export function nameOf(code: number): string {
  return CLOSES.find((fact) => fact[0] === code)?.[1] ?? "closed";
}

/** The `code` of an `error` message. */
export const ERRORS = [
  "bad_message", "unknown_action", "unauthenticated", "forbidden", "not_found", "already_exists",
  "invalid_field", "busy", "rate_limited", "too_large", "bad_ack", "user_mismatch", "unavailable", "corrupt",
  "storage_full", "quota_exceeded", "internal",
] as const;
export type ErrorCode = (typeof ERRORS)[number];

/** Errors that the server does not record, so the same command id may be sent again. */
export const NOT_RECORDED: ReadonlySet<string> = new Set<ErrorCode>([
  "unavailable", "busy", "rate_limited", "corrupt", "storage_full", "quota_exceeded", "internal",
  "unauthenticated",
]);

/** The close code that follows an authentication that failed with this `code`. */
export const AUTH_CLOSES: Readonly<Record<string, number>> = {
  token_expired: 4003,
  token_invalid: 4500,
  token_revoked: 4503,
};
