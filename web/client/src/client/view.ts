/** A stream folded into a value that a page shows: the current state, then every event. */

import type { Client } from "./client.js";
import type { HuahuoError } from "../model/errors.js";
import type { StreamEvent } from "../model/model.js";
import { type Observable, Subject } from "../model/observable.js";

/** How a stream becomes a value. Both functions are pure and return a new value. */
export interface Fold<S, State = never> {
  /** The value from the state of a snapshot. */
  snapshot(state: State): S;
  event(value: S, event: StreamEvent): S;
}

export interface View<S> {
  /** Undefined until the first snapshot. */
  readonly value: S | undefined;
  /** The seq of the last event in `value`. */
  readonly seq: number;
  /** Why the stream ended. */
  readonly error: HuahuoError | undefined;
}

export interface Watched<S> extends Observable<View<S>> {
  close(): void;
}

/** Begin with a snapshot and follow, with one change per run of events. Every tab has its own value. */
export function watch<S, State>(client: Client, stream: string, fold: Fold<S, State>): Watched<S> {
  const subject = new Subject<View<S>>({ value: undefined, seq: 0, error: undefined });
  const subscription = client.subscribe(stream, {
    after: "snapshot",
    onSnapshot: ({ state, last }) => {
      subject.set({ value: fold.snapshot(state as State), seq: last, error: undefined });
    },
    onBatch: (events) => {
      const { value } = subject.value;
      if (value === undefined) return;
      const seq = events.at(-1)?.seq ?? subject.value.seq;
      subject.set({ value: events.reduce<S>((so, event) => fold.event(so, event), value), seq, error: undefined });
    },
    onError: (error) => subject.set({ ...subject.value, error }),
  });
  return {
    get value() {
      return subject.value;
    },
    subscribe: subject.subscribe,
    close: () => subscription.close(),
  };
}
