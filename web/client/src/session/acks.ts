/** When acks are due: half a window at once, and less (also a new place) within 250 ms. Pure. */

import type { Pipe } from "./streams.js";

const ACK_AFTER_MS = 250;

export class Acks {
  /** When the next ack is due. */
  at = Infinity;

  constructor(
    private readonly pipes: ReadonlyMap<string, Pipe>,
    private readonly isOnline: () => boolean,
    private readonly send: (cursors: Record<string, number>) => void,
  ) {}

  /** Ack what is due at `now`, or note when it will be. */
  soon(window: number, now: number): void {
    let unacked = 0;
    let news = false;
    for (const pipe of this.pipes.values()) {
      const seq = pipe.ackable();
      if (seq === null) continue;
      news = true;
      unacked += Math.max(0, seq - Math.max(pipe.acked, pipe.floor));
    }
    if (this.at <= now || (news && unacked >= window / 2)) this.now();
    else if (news && this.at === Infinity) this.at = now + ACK_AFTER_MS;
  }

  /** Ack everything that was processed. */
  now(): void {
    this.at = Infinity;
    if (!this.isOnline()) return;
    const cursors: Record<string, number> = {};
    for (const pipe of this.pipes.values()) {
      const seq = pipe.ackable();
      if (seq !== null) pipe.acked = cursors[pipe.name] = seq;
    }
    if (Object.keys(cursors).length > 0) this.send(cursors);
  }
}
