/** Where the server is, and who a token is for. Pure. */

import { misuse } from "../model/errors.js";

/**
 * The WebSocket address of a server.
 *
 * @param base what a relative one is relative to
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
  /** A text for the user, "" if the token cannot be read: the server will refuse it. */
  readonly user: string;
  readonly expiresAtMs: number;
}

/** What a JWT says about itself; the server judges it. */
export function claimsOf(token: string): Claims {
  try {
    const payload = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const { user_id: user, exp } = JSON.parse(atob(payload)) as { user_id?: unknown; exp?: unknown };
    return {
      token,
      user: typeof user === "number" ? String(user) : "",
      expiresAtMs: typeof exp === "number" ? exp * 1000 : Infinity,
    };
  } catch {
    return { token, user: "", expiresAtMs: Infinity };
  }
}
