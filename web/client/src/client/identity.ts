/** Whose page this is: what the token says, else what the server says. */

import type { HuahuoError } from "../model/errors.js";
import type { State } from "../model/model.js";
import type { Subject } from "../model/observable.js";
import type { Host } from "../session/host.js";
import type { Retry } from "../session/retry.js";
import type { TokenSource } from "./token.js";

/**
 * The user; "" if the token names nobody and the server refuses it, or cannot say. It asks again after each
 * failure, which `states` shows, until `over`.
 *
 * @throws HuahuoError `misuse`: the token cannot be used
 */
export async function userOf(
  token: TokenSource, host: Host, url: string, retry: Retry, over: AbortSignal,
  states: Subject<State>,
): Promise<string> {
  const named = async (fresh: boolean) => {
    const current = await token.current(fresh);
    return token.claims?.user || ((await host.whose?.(url, current)) ?? "");
  };
  while (!over.aborted) {
    try {
      return (await named(false)) || (token.renewable ? await named(true) : "");
    } catch (error) {
      if (over.aborted || (error as HuahuoError | undefined)?.code === "misuse") throw error;
      const { delayMs } = retry.closed(null, host.now());
      const reason = token.claims ? "no user" : "getToken failed";
      states.set({ name: "offline", code: null, reason, retryMs: delayMs });
      await new Promise((resolve) => setTimeout(resolve, delayMs));
    }
  }
  return "";
}
