/** A subscription as an async iterator: one value at a time, the next when the loop asks for it. */

import type { HuahuoError } from "../model/errors.js";
import type { Subscription } from "./subscription.js";

interface Offered<T> {
  readonly value: T;
  readonly done: () => void;
  readonly abandon: (reason: unknown) => void;
}

/**
 * @param open subscribes with a handler that hands a value over and waits until it was processed
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
    // a loop that was left has not processed the value it was given last
    (offered as Offered<T> | null)?.abandon(end);
    subscription.close();
  }
}
