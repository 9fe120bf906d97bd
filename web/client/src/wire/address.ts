/** The server's address, and the claims of a token. Pure. */

import { misuse } from "../model/errors.js";

/**
 * The WebSocket address of a server.
 *
 * @param base the base of a relative `url`
 * @throws HuahuoError `misuse`
 */
export function socketUrl(url: string | URL | undefined, base: string): string {
  let parsed: URL;
  try {
    parsed = new URL(url ?? "/", base || undefined);
  } catch {
    throw misuse(`not the address of a server: ${String(url)}`);
  }
  const scheme = { "http:": "ws:", "https:": "wss:", "ws:": "ws:", "wss:": "wss:" }[parsed.protocol];
  if (!scheme) throw misuse(`not the address of a server: ${parsed.href}`);
  if (parsed.searchParams.has("token")) throw misuse("a token does not belong into an address");
  return `${scheme}//${parsed.host}${parsed.pathname}${parsed.search}`;
}

export interface Claims {
  readonly token: string;
  /** Identifies the user. "" if the token cannot be read, which the server will refuse. */
  readonly user: string;
  readonly expiresAtMs: number;
}

/** The claims of a JWT, unverified: the server verifies it. */
export function claimsOf(token: string): Claims {
  try {
    const payload = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const claims = JSON.parse(atob(payload)) as { user_id?: unknown; sub?: unknown; exp?: unknown };
    const { user_id: user = claims.sub, exp } = claims;
    return {
      token,
      user: typeof user === "number" || typeof user === "string" ? String(user) : "",
      expiresAtMs: typeof exp === "number" ? exp * 1000 : Infinity,
    };
  } catch {
    return { token, user: "", expiresAtMs: Infinity };
  }
}
