/**
 * Commands that wait for an answer, and the pace at which messages leave. Pure.
 *
 * A command keeps its id until it is answered, over any number of connections; the server executes an
 * id once. So everything here may be sent again without harm.
 */

import { Assembly, isWhole, type PartOf } from "../wire/parts.js";
import type { Other } from "../wire/wire.js";

/** Errors that are not the server's last word: the same id is sent again. */
const RETRIED = new Set(["unavailable", "rate_limited"]);
/** How often a command is sent before such an error is given to the application. */
const ATTEMPTS_MAX = 8;
/** So that what `nextAt` names is really enough. */
const ROUNDING = 1e-6;

/** A token bucket: at most `perS` messages a second, twice that in a burst. 0 = no limit. */
export class Pace {
  private left: number;
  private at = 0;

  constructor(private readonly perS: number) {
    this.left = 2 * perS;
  }

  /** Whether one more message may leave. */
  take(now: number): boolean {
    if (!this.perS) return true;
    this.left = Math.min(2 * this.perS, this.left + ((now - this.at) * this.perS) / 1000);
    this.at = now;
    if (this.left < 1 - ROUNDING) return false;
    this.left -= 1;
    return true;
  }

  /** When the next message may leave; a time that has passed: now. */
  nextAt(): number {
    return this.perS ? this.at + ((1 - this.left) / this.perS) * 1000 : 0;
  }
}

interface Waiting {
  readonly text: string;
  attempts: number;
  /** When to send it (again); null while its answer is awaited. */
  sendAt: number | null;
}

export class CommandQueue {
  private readonly waiting = new Map<string, Waiting>();
  private readonly assemblies = new Map<string, Assembly>();

  constructor(private readonly backoff: (attempt: number) => number) {}

  has(id: string): boolean {
    return this.waiting.has(id);
  }

  /** Take a command in; it leaves with the next `due`. One that is known already changes nothing. */
  add(id: string, text: string): void {
    if (!this.waiting.has(id)) this.waiting.set(id, { text, attempts: 0, sendAt: 0 });
  }

  /** Nobody waits for this answer any more; it is not sent (again). */
  forget(id: string): void {
    this.waiting.delete(id);
    this.assemblies.delete(id);
  }

  /** Nothing counts as sent any more. */
  connectionLost(): void {
    for (const command of this.waiting.values()) command.sendAt = 0;
    this.assemblies.clear();
  }

  /**
   * The reply that this message is or completes; null while parts are missing, or nobody waits.
   *
   * @throws HuahuoError `protocol_violation`: a part does not fit
   */
  assembled(message: Other, size: number): Other | null {
    const { part = 1, more = false, ...reply } = message as Other & PartOf;
    if (isWhole({ part, more })) return message;
    const id = String(message.id);
    if (!this.waiting.has(id)) return null;
    const assembly = this.assemblies.get(id) ?? new Assembly();
    this.assemblies.set(id, assembly);
    assembly.add(reply, part, size);
    if (more) return null;
    this.assemblies.delete(id);
    return assembly.whole as Other;
  }

  /** Whether the answer is final (then the command is gone), or the command is sent again later, not before `retryMs`. */
  answered(id: string, errorCode: string, now: number, retryMs = 0): boolean {
    const command = this.waiting.get(id);
    if (command && RETRIED.has(errorCode) && command.attempts < ATTEMPTS_MAX) {
      command.sendAt = now + Math.max(retryMs, this.backoff(command.attempts));
      return false;
    }
    this.waiting.delete(id);
    return true;
  }

  /** The messages that leave now, in the order in which they were given. */
  due(pace: Pace, now: number): string[] {
    const messages: string[] = [];
    for (const command of this.waiting.values()) {
      if (command.sendAt === null || command.sendAt > now) continue;
      if (!pace.take(now)) break;
      command.sendAt = null;
      command.attempts += 1;
      messages.push(command.text);
    }
    return messages;
  }

  /** When `due` has something again. */
  nextAt(pace: Pace): number {
    let at = Infinity;
    for (const { sendAt } of this.waiting.values()) if (sendAt !== null) at = Math.min(at, sendAt);
    return at === Infinity ? at : Math.max(at, pace.nextAt());
  }
}
