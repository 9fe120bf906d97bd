/** A value that changes, with listeners. Works with React's `useSyncExternalStore`. */
export interface Observable<T> {
  readonly value: T;
  /** Call `listener` after each change. Returns a function that ends that. */
  subscribe(listener: (value: T) => void): () => void;
}

export class Subject<T> implements Observable<T> {
  private readonly listeners = new Set<(value: T) => void>();

  constructor(private current: T) {}

  get value(): T {
    return this.current;
  }

  set(value: T): void {
    this.current = value;
    for (const listener of [...this.listeners]) guarded(() => listener(value));
  }

  subscribe = (listener: (value: T) => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };
}

/** Report an exception of a listener as uncaught, so that it does not break the connection. */
export function guarded(call: () => void): void {
  try {
    call();
  } catch (error) {
    report(error);
  }
}

export function report(error: unknown): void {
  if (typeof reportError === "function") reportError(error);
  else console.error(error);
}
