/**
 * Unanswered commands, and the rate at which messages are sent. Pure.
 *
 * A command keeps its id until it is answered, over any number of connections. The server executes each id
 * once, so every command here may be sent again.
 */

import { Assembly, isWhole, type PartOf } from "../wire/parts.js";
import type { Other } from "../wire/wire.js";

/** Temporary errors, after which the same id is sent again. */
const RETRIED = new Set(["unavailable", "rate_limited"]);
/** How often a command is sent before the application gets such an error. */
const ATTEMPTS_MAX = 8;
/** Absorbs rounding errors, so that a message may really be sent at the time that `nextAt` returns. */
const ROUNDING = 1e-6;

/** A token bucket: at most `perS` messages a second, bursts of twice that. 0 = no limit. */
export class Pace {
  private left: number;
  private at = 0;

  constructor(private readonly perS: number) {
    this.left = 2 * perS;
  }

  /** Take a token if there is one. True: a message may be sent. */
  take(now: number): boolean {
    if (!this.perS) return true;
    this.left = Math.min(2 * this.perS, this.left + ((now - this.at) * this.perS) / 1000);
    this.at = now;
    if (this.left < 1 - ROUNDING) return false;
    this.left -= 1;
    return true;
  }

  /** When the next message may be sent. A time in the past means now. */
  nextAt(): number {
    return this.perS ? this.at + ((1 - this.left) / this.perS) * 1000 : 0;
  }
}

interface Waiting {
  readonly text: string;
  attempts: number;
  /** When to send it (again). Null while its answer is awaited. */
  sendAt: number | null;
}

export class CommandQueue {
  private readonly waiting = new Map<string, Waiting>();
  private readonly assemblies = new Map<string, Assembly>();

  constructor(private readonly backoff: (attempt: number) => number) {}

  has(id: string): boolean {
    return this.waiting.has(id);
  }

  /** Add a command, which the next `due` returns. A known id changes nothing. */
  add(id: string, text: string): void {
    if (!this.waiting.has(id)) this.waiting.set(id, { text, attempts: 0, sendAt: 0 });
  }

  /** Drop a command whose answer is not needed any more. It is not sent again. */
  forget(id: string): void {
    this.waiting.delete(id);
    this.assemblies.delete(id);
  }

  /** Mark every command as not sent. */
  connectionLost(): void {
    for (const command of this.waiting.values()) command.sendAt = 0;
    this.assemblies.clear();
  }

  /**
   * The reply that this message is or completes. Null while parts are missing, or for an unknown id.
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

  /** True: the answer is final and the command removed. False: it is sent again, not before `retryMs`. */
  answered(id: string, errorCode: string, now: number, retryMs = 0): boolean {
    const command = this.waiting.get(id);
    if (command && RETRIED.has(errorCode) && command.attempts < ATTEMPTS_MAX) {
      command.sendAt = now + Math.max(retryMs, this.backoff(command.attempts));
      return false;
    }
    this.waiting.delete(id);
    return true;
  }

  /** The messages to send now, in the order in which they were added. */
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

  /** When `due` will return a message. */
  nextAt(pace: Pace): number {
    let at = Infinity;
    for (const { sendAt } of this.waiting.values()) if (sendAt !== null) at = Math.min(at, sendAt);
    return at === Infinity ? at : Math.max(at, pace.nextAt());
  }
}
