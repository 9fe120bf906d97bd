/** The sign-in token of this tab: from the link, from the form, or from before a reload. */

import { tokenIn } from "../model/route";

const KEY = "huahuo.token";

/** The token to begin with. One in the address is taken out of it, and of the history, at once. */
export function takeToken(): string | null {
  const token = tokenIn(location.hash);
  if (token !== null) {
    history.replaceState(null, "", location.pathname + location.search);
    keepToken(token);
    return token;
  }
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

export function keepToken(token: string): void {
  try {
    sessionStorage.setItem(KEY, token);
  } catch {
    // then a reload asks again
  }
}

export function forgetToken(): void {
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // there was none
  }
}

/** Three parts with dots between them, the middle one an object: worth sending to the server. */
export function looksLikeToken(text: string): boolean {
  const parts = text.split(".");
  if (parts.length !== 3 || parts.some((part) => !/^[\w-]+$/.test(part))) return false;
  try {
    const claims: unknown = JSON.parse(atob((parts[1] ?? "").replace(/-/g, "+").replace(/_/g, "/")));
    return typeof claims === "object" && claims !== null && ("user_id" in claims || "sub" in claims);
  } catch {
    return false;
  }
}
