/** The state of a stream in this tab, folded by the server. It outlives connections and their owners. */

import { HuahuoError } from "../model/errors.js";
import { type Observable, Subject } from "../model/observable.js";
import type { EngineMessage, TabMessage } from "../wire/messages.js";
import type { View } from "./view.js";

/** What it needs from its client. */
export interface EntitySource {
  newReader(entity: EntityState<unknown>): string;
  send(message: TabMessage): void;
  closed(entity: EntityState<unknown>): void;
}

/** A JSON merge patch (RFC 7396). A new value: pages compare old and new ones. */
export function patched(target: unknown, patch: unknown): unknown {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch;
  const made: Record<string, unknown> = typeof target === "object" && !Array.isArray(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete made[name];
    else made[name] = patched(made[name], value);
  }
  return made;
}

export class EntityState<S> implements Observable<View<S>> {
  private readonly subject = new Subject<View<S>>({ value: undefined, seq: 0, error: undefined });
  readonly subscribe = this.subject.subscribe;
  private reader = "";

  constructor(private readonly stream: string, private readonly source: EntitySource) {
    this.attach();
  }

  /** The state so far; undefined until the first one is there. */
  get value(): View<S> {
    return this.subject.value;
  }

  /** Follow it no more. */
  close(): void {
    this.detach();
    this.source.closed(this as EntityState<unknown>);
  }

  attach(): void {
    this.detach();
    this.reader = this.source.newReader(this as EntityState<unknown>);
    const { reader, stream } = this;
    this.source.send({ do: "follow", reader, list: stream, fields: {}, limit: 0, place: null });
  }

  detach(): void {
    if (this.reader) this.source.send({ do: "detach", reader: this.reader });
    this.reader = "";
  }

  keep(): void {} // it is short: the next page asks for it

  heard(message: EngineMessage & { readonly reader: string }): void {
    if (message.reader !== this.reader) return;
    if (message.is === "followed") {
      const { seq, state, patch } = message;
      const value = (state ?? patched(this.value.value, patch)) as S;
      this.source.send({ do: "applied", reader: this.reader, position: seq });
      this.subject.set({ value, seq, error: undefined });
    } else if (message.is === "ended") {
      this.fail(new HuahuoError(message.error.code, message.error.message, message.error));
    }
  }

  fail(error: HuahuoError): void {
    if (this.value.error) return;
    this.reader = "";
    this.subject.set({ ...this.value, error });
    this.source.closed(this as EntityState<unknown>);
  }
}
