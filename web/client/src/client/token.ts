/** The application's token: kept while it can be used, and always of the same user. */

import { misuse } from "../model/errors.js";
import { type Claims, claimsOf } from "../wire/address.js";

/** A token that expires sooner is not used for a new connection. */
const SPARE_MS = 5_000;

/** The error of a client whose application changes the user under it. */
export const otherUser = () => misuse("`getToken` gave a token of another user: close this client and make a new one");

/** Where the token comes from: one of both is given. */
export interface TokenOptions {
  readonly token?: string | undefined;
  readonly getToken?: (() => string | Promise<string>) | undefined;
}

export class TokenSource {
  /** What the last token says, null before the first one. */
  claims: Claims | null = null;

  /** @throws HuahuoError `misuse`: the options cannot work */
  constructor(private readonly options: TokenOptions) {
    const { token, getToken } = options;
    if ((token === undefined) === (getToken === undefined)) throw misuse("give either `token` or `getToken`");
    if (getToken && typeof getToken !== "function") throw misuse("`getToken` must be a function");
  }

  /** Whether there can be a new token when this one expires. */
  get renewable(): boolean {
    return this.options.getToken !== undefined;
  }

  /**
   * The token for the next connection; `fresh`: the last one was refused.
   *
   * @throws HuahuoError `misuse`: the result is not a token, or a token of another user
   */
  async current(fresh: boolean): Promise<string> {
    const { token, getToken } = this.options;
    const known = this.claims;
    if (known && !fresh && (!getToken || known.expiresAtMs > Date.now() + SPARE_MS)) return known.token;
    const given: unknown = getToken ? await getToken() : token;
    if (typeof given !== "string" || given === "") throw misuse("`getToken` must give a token as a text");
    const claims = claimsOf(given);
    if (known && known.user !== claims.user) {
      throw otherUser();
    }
    this.claims = claims;
    return given;
  }
}
