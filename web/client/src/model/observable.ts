/** A value that changes, and who wants to know. Fits React's `useSyncExternalStore` as it is. */
export interface Observable<T> {
  readonly value: T;
  /** Call `listener` after each change; gives a function that ends that. */
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

/** A listener's fault is not the connection's: it is reported as an uncaught error and goes no further. */
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
