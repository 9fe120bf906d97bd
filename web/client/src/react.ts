/** React 18 and later: `huahuo-client/react`. */

import { useEffect, useRef, useState, useSyncExternalStore } from "react";
import { type Client, type Fold, type Observable, type State, type View, watch } from "./index.js";

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
