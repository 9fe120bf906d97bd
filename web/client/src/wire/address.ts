/** The server's address, and the claims of a token. Pure. */

import { misuse } from "../model/errors.js";

/**
 * The WebSocket address of a server. `https://host/live` names the place where an application is mounted: its
 * WebSocket is `/live/ws`. An address with another scheme, or with a path that ends in a slash, is taken as it is.
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
  const { protocol, host, pathname, search } = parsed;
  if (!/^(http|ws)s?:$/.test(protocol)) throw misuse(`not the address of a server: ${parsed.href}`);
  if (parsed.searchParams.has("token")) throw misuse("a token does not belong into an address");
  const socket = protocol < "w" && !search && !/\/(ws)?$/.test(pathname) ? "/ws" : "";
  return `${protocol.replace("http", "ws")}//${host}${pathname}${socket}${search}`;
}

export interface Claims {
  readonly token: string;
  /** Identifies the user. "" if the token cannot be read, which the server will refuse. */
  readonly user: string;
  readonly expiresAtMs: number;
}

/** All that a JWT says, unverified. It throws what it likes if this is none. */
export function payloadOf(token: string): Record<string, unknown> {
  return JSON.parse(atob((token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/"))) as Record<string, unknown>;
}

/** The claims of a JWT, unverified: the server verifies it. */
export function claimsOf(token: string): Claims {
  try {
    const { sub, user_id: user = sub, exp } = payloadOf(token);
    return {
      token,
      user: typeof user === "number" || typeof user === "string" ? String(user) : "",
      expiresAtMs: typeof exp === "number" ? exp * 1000 : Infinity,
    };
  } catch {
    return { token, user: "", expiresAtMs: Infinity };
  }
}
