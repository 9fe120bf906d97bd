/** React 18 and later: `huahuo-client/react`. */

import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";
import {
  cancelJob, type Client, type FieldsOf, type Fold, type Job, JOB_FOLD, type ListOptions, type Lists, type ListState, type LiveList,
  type Observable, type Reply, type RowOf, type State, type View, watch,
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

export interface ListView<Row> {
  readonly rows: readonly Row[];
  /** How many rows would change at `resume`. */
  readonly waiting: number;
  readonly state: ListState;
  /** To ask for `more`, to `pause` and to `resume`. Null at the first rendering. */
  readonly list: LiveList<Row> | null;
}

const NO_ROWS: readonly never[] = [];
const CONNECTING: ListState = { name: "connecting" };

/**
 * A live list, for as long as the component is mounted. `fields` may be written inline.
 *
 * @param name its name; "" follows none
 */
export function useList<N extends keyof Lists>(client: Client, name: N, fields: FieldsOf<N>, options?: ListOptions): ListView<RowOf<N>>;
export function useList<Row = unknown>(client: Client, name: string, fields?: object, options?: ListOptions): ListView<Row>;
export function useList(client: Client, name: string, fields: any = {}, options: ListOptions = {}): ListView<any> {
  const [list, setList] = useState<LiveList<unknown> | null>(null);
  const [, again] = useState(0);
  const given = JSON.stringify(fields);
  useEffect(() => {
    if (!name) return undefined;
    const made = client.list<unknown>(name as never, JSON.parse(given) as object, options);
    const render = () => again((count) => count + 1);
    const ends = [made.rows, made.waiting, made.state].map((one: Observable<unknown>) => one.subscribe(render));
    setList(made);
    return () => {
      setList(null);
      for (const end of ends) end();
      made.close();
    };
  }, [client, name, given, options.limit]);
  return {
    rows: list?.rows.value ?? NO_ROWS, waiting: list?.waiting.value ?? 0, state: list?.state.value ?? CONNECTING, list,
  };
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
