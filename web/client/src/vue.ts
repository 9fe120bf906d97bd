/** Vue 3: `huahuo-client/vue`. */

import { isRef, onScopeDispose, readonly, shallowRef, type ShallowRef, toValue, watch as watchRef, type WatchSource } from "vue";
import {
  cancelJob, type Client, type FieldsOf, type Fold, type Job, JOB_FOLD, type ListOptions, type Lists, type ListState, type LiveList,
  type Observable, type Reply, type RowOf, type State, type View, watch,
} from "./index.js";

type Ref<T> = Readonly<ShallowRef<T>>;

/** An observable as a ref, for the lifetime of the component. */
export function useObservable<T>(observable: Observable<T>): Ref<T> {
  const ref = shallowRef(observable.value) as ShallowRef<T>;
  onScopeDispose(observable.subscribe((value) => (ref.value = value)));
  return readonly(ref) as Ref<T>;
}

/** The connection's state as a ref. */
export const useConnection = (client: Client): Ref<State> => useObservable(client.state);

/**
 * A stream folded into a value, for the lifetime of the component.
 *
 * @param stream its name, or a ref or getter of it; "" follows no stream
 */
export function useStream<S, T>(client: Client, stream: string | WatchSource<string>, fold: Fold<S, T>): Ref<View<S>> {
  const nothing: View<S> = { value: undefined, seq: 0, error: undefined };
  const ref = shallowRef(nothing) as ShallowRef<View<S>>;
  let close = (): void => undefined;
  const follow = (name: string) => {
    close();
    ref.value = nothing;
    close = () => undefined;
    if (!name) return;
    const view = watch(client, name, fold);
    const forget = view.subscribe((value) => (ref.value = value));
    close = () => {
      forget();
      view.close();
    };
  };
  if (typeof stream === "string") follow(stream);
  else watchRef(stream, follow, { immediate: true });
  onScopeDispose(() => close());
  return readonly(ref) as Ref<View<S>>;
}

/**
 * A live list, for the lifetime of the component: its rows as a ref, and the list itself for `more`, `pause` and
 * `resume`.
 *
 * @param fields its fields, or a ref or getter of them
 */
export function useList<N extends keyof Lists>(
  client: Client, name: N, fields: FieldsOf<N> | WatchSource<FieldsOf<N>>, options?: ListOptions,
): ListRefs<RowOf<N>>;
export function useList<Row = unknown>(
  client: Client, name: string, fields?: object | WatchSource<object>, options?: ListOptions,
): ListRefs<Row>;
export function useList(
  client: Client, name: string, fields: any = {}, options: ListOptions = {},
): ListRefs<any> {
  const rows = shallowRef<readonly unknown[]>([]);
  const waiting = shallowRef(0);
  const state = shallowRef<ListState>({ name: "connecting" });
  const list = shallowRef<LiveList<unknown> | null>(null);
  let close = (): void => undefined;
  const follow = (given: object) => {
    close();
    const made = client.list<unknown>(name as never, given, options);
    list.value = made;
    rows.value = made.rows.value;
    state.value = made.state.value;
    const ends = [
      made.rows.subscribe((value) => (rows.value = value)),
      made.waiting.subscribe((value) => (waiting.value = value)),
      made.state.subscribe((value) => (state.value = value)),
    ];
    close = () => {
      for (const end of ends) end();
      made.close();
    };
  };
  if (typeof fields === "function" || isRef(fields)) watchRef(fields as WatchSource<object>, follow, { immediate: true });
  else follow(fields);
  onScopeDispose(() => close());
  return { rows, waiting, state, list };
}

export interface ListRefs<Row> {
  readonly rows: Ref<readonly Row[]>;
  /** How many rows would change at `resume`. */
  readonly waiting: Ref<number>;
  readonly state: Ref<ListState>;
  readonly list: Ref<LiveList<Row> | null>;
}

/**
 * A job of the service, for the lifetime of the component, and the function that asks it to end.
 *
 * @param id its number, or a ref or getter of it; null follows none
 */
export function useJob(
  client: Client, id: number | WatchSource<number | null>,
): { readonly job: Ref<View<Job>>; readonly cancel: () => Promise<Reply> } {
  const number = (): number | null => (typeof id === "number" ? id : toValue(id));
  const name = (): string => (number() === null ? "" : `job/${number()}`);
  return { job: useStream(client, name, JOB_FOLD), cancel: () => cancelJob(client, number() ?? 0) };
}
