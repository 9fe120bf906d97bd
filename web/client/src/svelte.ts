/** Svelte: `huahuo-client/svelte`. */

import type { Observable } from "./index.js";

/** A store by Svelte's contract: `subscribe` calls at once, and after each change. */
export interface Store<T> {
  subscribe(run: (value: T) => void): () => void;
}

/** An observable as a store: `const rows = store(client.list("open_auctions").rows)`, then `$rows`. */
export const store = <T>(observable: Observable<T>): Store<T> => ({
  subscribe(run) {
    run(observable.value);
    return observable.subscribe(run);
  },
});
