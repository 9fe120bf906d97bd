/** Whether and when the client comes back after a connection ended. Pure. */

import { AUTH_CLOSES, LOST, ruleOf, nameOf } from "../model/codes.js";

/** A connection that lived this long puts the back-off to its start again. */
const STABLE_MS = 5_000;
/** The least delay where the protocol says "slowly". */
const SLOWLY_MS = 30_000;

/** What follows: an attempt in `delayMs`, with a new token or the old, or the end (`stop`). */
export interface Verdict {
  readonly stop: boolean;
  readonly code: number;
  readonly why: string;
  readonly delayMs: number;
  readonly newToken: boolean;
}

/** Full-jitter back-off: anything from 0 to `firstMs` · 2ⁿ, at most `maxMs`. */
export class Retry {
  private attempts = 0;
  private onlineAt: number | null = null;

  /**
   * @param chance gives numbers in [0, 1)
   * @param renewable whether a new token can be had; without one an expired token is the end
   */
  constructor(
    private readonly chance: () => number,
    private readonly firstMs = 500,
    private readonly maxMs = 20_000,
    private readonly renewable = true,
  ) {}

  /** How long to wait before attempt number `attempt` + 1. */
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
   * @param retryS the span in seconds that the server asked for
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
