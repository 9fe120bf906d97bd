/** The unanswered commands of a tab. They outlive connections and their owners. */

import { HuahuoError, misuse } from "../model/errors.js";
import type { TabMessage } from "../wire/messages.js";
import type { Reply } from "../model/model.js";

interface Pending {
  readonly text: string;
  readonly settle: (reply: Reply | HuahuoError) => void;
}

export class Outbox {
  private readonly pending = new Map<string, Pending>();

  constructor(private readonly max: number, private readonly send: (message: TabMessage) => void) {}

  /**
   * Add a command and wait for its answer.
   *
   * @throws HuahuoError `queue_full`, `misuse`, `aborted`, or the refusal that the server answered
   */
  add(id: string, text: string, signal?: AbortSignal): Promise<Reply> {
    return new Promise((resolve, reject) => {
      if (this.pending.size >= this.max) {
        throw new HuahuoError("queue_full", `${this.max} commands wait for an answer already`);
      }
      if (this.pending.has(id)) throw misuse(`the command ${id} waits for its answer already`);
      if (signal?.aborted) throw aborted();
      const settle = (reply: Reply | HuahuoError) => {
        this.pending.delete(id);
        signal?.removeEventListener("abort", give);
        if (reply instanceof HuahuoError) reject(reply);
        else resolve(reply);
      };
      const give = () => {
        settle(aborted());
        this.send({ do: "forget", id });
      };
      signal?.addEventListener("abort", give);
      this.pending.set(id, { text, settle });
      this.send({ do: "command", id, text });
    });
  }

  /** Settle a command with its answer. */
  answered(id: string, reply: Reply | HuahuoError): void {
    this.pending.get(id)?.settle(reply);
  }

  /** Repeat all commands to a new owner of the connection. */
  again(): void {
    for (const [id, { text }] of this.pending) this.send({ do: "command", id, text });
  }

  /** Reject all commands. */
  fail(error: HuahuoError): void {
    for (const { settle } of [...this.pending.values()]) settle(error);
  }
}

const aborted = () => new HuahuoError("aborted", "the application gave up waiting");

/** The result of `work`, or the error `aborted` if the signal comes first. */
export function abortable<T>(work: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (!signal) return work;
  return new Promise((resolve, reject) => {
    const give = () => reject(aborted());
    if (signal.aborted) give();
    signal.addEventListener("abort", give);
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", give));
  });
}
