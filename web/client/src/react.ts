/** React 18 and later: `huahuo-client/react`. */

import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";
import {
  cancelJob, type Client, type Fold, type Job, JOB_FOLD, type Observable, type Reply, type State, type View, watch,
} from "./index.js";

/** An observable's value. The component renders again when it changes. */
export function useObservable<T>(observable: Observable<T>): T {
  const get = () => observable.value;
  return useSyncExternalStore(observable.subscribe, get, get);
}

/** The connection's state. */
export const useConnection = (client: Client): State => useObservable(client.state);

const NOTHING: View<never> = { value: undefined, seq: 0, error: undefined };

/**
 * A stream folded into a value, for as long as the component is mounted.
 *
 * @param stream its name; "" follows no stream
 * @param fold may be written inline: a new object at each render does not subscribe again
 */
export function useStream<S, T>(client: Client, stream: string, fold: Fold<S, T>): View<S> {
  const [view, setView] = useState<View<S>>(NOTHING);
  const latest = useRef(fold);
  latest.current = fold;
  useEffect(() => {
    setView(NOTHING);
    if (!stream) return undefined;
    const watched = watch<S, T>(client, stream, {
      snapshot: (state) => latest.current.snapshot(state),
      event: (value, event) => latest.current.event(value, event),
    });
    const forget = watched.subscribe(setView);
    return () => {
      forget();
      watched.close();
    };
  }, [client, stream]);
  return view;
}

export interface JobView extends View<Job> {
  /** Ask it to end. Throws as `send`; the code `conflict` says that it has ended. */
  readonly cancel: () => Promise<Reply>;
}

/**
 * A job of the service, for as long as the component is mounted.
 *
 * @param id its number; null follows none
 */
export function useJob(client: Client, id: number | null): JobView {
  const view = useStream(client, id === null ? "" : `job/${id}`, JOB_FOLD);
  const cancel = useCallback(() => cancelJob(client, id ?? 0), [client, id]);
  return { ...view, cancel };
}
