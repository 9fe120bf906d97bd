/** Whether and when the client reconnects after a connection ended. Pure. */

import { AUTH_CLOSES, LOST, ruleOf, nameOf } from "../model/codes.js";

/** A connection that lasted this long resets the back-off. */
const STABLE_MS = 5_000;
/** The minimum delay after a close code with the rule `reconnect_slowly`. */
const SLOWLY_MS = 30_000;

/** The next step: an attempt after `delayMs`, with a new token or the old one, or the end (`stop`). */
export interface Verdict {
  readonly stop: boolean;
  readonly code: number;
  readonly why: string;
  readonly delayMs: number;
  readonly newToken: boolean;
}

/** Full-jitter back-off: a random delay from 0 to `firstMs` · 2ⁿ, at most `maxMs`. */
export class Retry {
  private attempts = 0;
  private onlineAt: number | null = null;

  /**
   * @param chance gives random numbers in [0, 1)
   * @param renewable whether there can be a new token; if not, the client stops when its token expires
   */
  constructor(
    private readonly chance: () => number,
    private readonly firstMs = 500,
    private readonly maxMs = 20_000,
    private readonly renewable = true,
  ) {}

  /** The delay before attempt number `attempt` + 1. */
  delayMs(attempt: number): number {
    return this.chance() * Math.min(this.maxMs, this.firstMs * 2 ** Math.min(attempt, 30));
  }

  /** The connection is authenticated. */
  online(now: number): void {
    this.onlineAt = now;
  }

  /**
   * The verdict on a connection that ended with `code` (null: lost, or never made).
   *
   * @param retryS the range of delays, in seconds, that the server asked for
   * @param failure the code of a refused authentication
   */
  closed(code: number | null, now: number, retryS?: readonly [number, number], failure = ""): Verdict {
    const ended = AUTH_CLOSES[failure] ?? code ?? LOST;
    const rule = ruleOf(ended);
    const newToken = rule === "new_token";
    const why = nameOf(ended);
    if (rule === "stop" || (newToken && !this.renewable)) {
      return { stop: true, code: ended, why, delayMs: 0, newToken };
    }
    if (this.onlineAt !== null && now - this.onlineAt >= STABLE_MS) this.attempts = 0;
    this.onlineAt = null;
    let delayMs = this.delayMs(this.attempts);
    if (retryS && this.attempts === 0) {
      delayMs = 1000 * (retryS[0] + this.chance() * Math.max(0, retryS[1] - retryS[0]));
    }
    if (rule === "reconnect_slowly") delayMs = Math.max(delayMs, SLOWLY_MS * (1 + this.chance()));
    this.attempts += 1;
    return { stop: false, code: ended, why, delayMs, newToken };
  }
}
