/** When a heartbeat is due, and when the connection counts as dead. Pure. It mirrors `transport/client/retry.py`. */

/** Timeout of the answer to a heartbeat, and of the close after a goaway. */
const ANSWER_WITHIN_MS = 10_000;
/** The same if the connection is doubtful: the network came back, or the page was hidden. */
const PROBE_WITHIN_MS = 4_000;
/** After failed attempts the server may delay its answer by 10 s. */
const AUTHENTICATED_WITHIN_MS = 20_000;
/** A timer this late was throttled, or the machine slept, so it does not show that the connection is dead. */
const LATE_MS = 1_500;

export class Liveness {
  /** The server is silent for too long. */
  dead = false;
  private heartbeatMs = 30_000;
  private heardAt = 0;
  private deadAt = Infinity;
  private doubted = false;

  /** A socket is open: authentication is expected. */
  connected(now: number): void {
    this.dead = this.doubted = false;
    this.heardAt = now;
    this.deadAt = now + AUTHENTICATED_WITHIN_MS;
  }

  /** The token was accepted. */
  online(heartbeatMs: number): void {
    this.deadAt = Infinity;
    this.heartbeatMs = heartbeatMs;
  }

  /** A message came. `isAnswer`: it ends what was expected. */
  heard(now: number, isAnswer: boolean): void {
    this.heardAt = now;
    if (!isAnswer) return;
    this.deadAt = Infinity;
    this.doubted = false;
  }

  /** The server is about to close the connection. */
  expectEnd(now: number): void {
    this.deadAt = now + ANSWER_WITHIN_MS;
  }

  /** The socket is gone. */
  closed(): void {
    this.dead = false;
    this.deadAt = Infinity;
  }

  /** The connection is doubtful: whether to send a heartbeat, whose answer is expected within 4 s. */
  probe(now: number): boolean {
    if (this.deadAt <= now + PROBE_WITHIN_MS) return false;
    this.deadAt = now + PROBE_WITHIN_MS;
    return true;
  }

  /** When `tick` must be called. */
  deadline(online: boolean): number {
    if (this.deadAt < Infinity || !online) return this.deadAt;
    return this.heardAt + this.heartbeatMs;
  }

  /** Do what is due. Whether to send a heartbeat. */
  tick(now: number, online: boolean): boolean {
    const late = now - this.deadAt;
    if (late >= LATE_MS && !this.doubted && online) {
      this.doubted = true;
      this.deadAt = Infinity;
      return this.probe(now);
    }
    if (late >= 0) {
      this.dead = true;
      this.deadAt = Infinity;
      return false;
    }
    if (!online || this.deadAt < Infinity || this.heardAt + this.heartbeatMs > now) return false;
    this.deadAt = now + ANSWER_WITHIN_MS;
    return true;
  }
}
