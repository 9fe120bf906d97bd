/** A subscription as an async iterator. The next value is taken when the loop asks for it. */

import type { HuahuoError } from "../model/errors.js";
import type { Subscription } from "./subscription.js";

interface Offered<T> {
  readonly value: T;
  readonly done: () => void;
  readonly abandon: (reason: unknown) => void;
}

/**
 * @param open subscribes with the given handler, which passes a value on and resolves when it was processed
 */
export async function* iterate<T>(
  open: (handOver: (value: T) => Promise<void>) => Subscription,
): AsyncGenerator<T, void> {
  let offered: Offered<T> | null = null;
  let wake = (): void => undefined;
  let end: HuahuoError | null = null;
  const subscription = open((value) => new Promise((done, abandon) => {
    offered = { value, done, abandon };
    wake();
  }));
  void subscription.closed.then((error) => {
    end = error;
    wake();
  });
  const next = async (): Promise<Offered<T> | null> => {
    while (!offered && !end) await new Promise<void>((resolve) => (wake = resolve));
    return end ? null : offered;
  };
  try {
    for (let one = await next(); one; one = await next()) {
      yield one.value;
      offered = null;
      one.done();
    }
    if (end && (end as HuahuoError).code !== "not_subscribed") throw end as HuahuoError;
  } finally {
    // A loop that was left has not processed its last value.
    (offered as Offered<T> | null)?.abandon(end);
    subscription.close();
  }
}
