/**
 * Close codes, error codes and what a client does about each. A copy of `transport/codes.py`, which
 * owns them; a test compares the two. Pure.
 */

/** What a client does after a close. */
export type Rule = "reconnect" | "reconnect_slowly" | "new_token" | "stop";

const R = "reconnect", S = "stop";

/** code, name, rule, when the server issues it */
export const CLOSES: readonly (readonly [code: number, name: string, rule: Rule, when: string])[] = [
  [1000, "normal", S, "FireMail dialect only: the token was refused."],
  [1001, "going_away", R, "Classic client: going away, or silent for too long."],
  [1002, "protocol_error", S, "The client broke WebSocket framing."],
  [1006, "lost", R, "The connection was lost without a close; never sent."],
  [1007, "bad_utf8", S, "A text message was not UTF-8."],
  [1009, "too_large", S, "A message was above the size limit."],
  [1011, "server_fault", R, "The server met a fault of its own."],
  [1012, "restart", R, "Classic client: the server restarts."],
  [1013, "try_again_later", R, "FireMail dialect only: any other passing trouble."],
  [4000, "draining", R, "The server drains: it stops, or is about to restart."],
  [4003, "token_expired", "new_token", "The token expired, before or while connected."],
  [4008, "too_slow", R, "Nothing was acked for 60 s with events outstanding."],
  [4009, "superseded", S, "A newer connection with the same user and client took over."],
  [4012, "silent", R, "Neither message nor pong came for two heartbeat periods."],
  [4013, "rate_limited", R, "The client kept sending above the rate limit."],
  [4408, "auth_timeout", R, "No authentication within 10 s."],
  [4500, "token_invalid", S, "The token is not one that this server accepts."],
  [4503, "revoked", S, "The token or its user was revoked."],
  [4504, "too_many_connections", "reconnect_slowly", "The address or the user has too many connections."],
  [4506, "unsupported_version", S, "No offered version of the protocol is spoken here."],
  [4507, "forbidden", S, "The client may not be here at all."],
];

export const LOST = 1006;
export const UNSUPPORTED_VERSION = 4506;
const STOP_FROM = 4500;

/** What a client does after `code`, also one that newer servers may send: from 4500 on, stop. */
export function ruleOf(code: number): Rule {
  const known = CLOSES.find((fact) => fact[0] === code);
  return known ? known[2] : code >= STOP_FROM ? S : R;
}

/** A sentence on when the server issues `code`. */
export function whenOf(code: number): string {
  return CLOSES.find((fact) => fact[0] === code)?.[3] ?? "The server closed the connection.";
}

/** The `code` of an `error` message. */
export const ERRORS = [
  "bad_message", "unknown_action", "unauthenticated", "forbidden", "not_found", "already_exists",
  "invalid_field", "busy", "rate_limited", "too_large", "bad_ack", "user_mismatch", "unavailable",
  "internal",
] as const;
export type ErrorCode = (typeof ERRORS)[number];

/** Errors after which the same command id may be tried again: the server does not remember them. */
export const NOT_RECORDED: ReadonlySet<string> = new Set<ErrorCode>([
  "unavailable", "busy", "rate_limited", "internal", "unauthenticated",
]);

/** How a connection ends whose authentication failed with this `code`. */
export const AUTH_CLOSES: Readonly<Record<string, number>> = {
  token_expired: 4003,
  token_invalid: 4500,
  token_revoked: 4503,
};
