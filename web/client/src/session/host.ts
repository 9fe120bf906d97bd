/** Everything that the client needs from the browser, in one interface, so that tests can replace it. */

export interface Host {
  /** Monotonic time in milliseconds. */
  now(): number;
  /** A number in [0, 1). */
  random(): number;
  /** A unique text. */
  id(): string;
  readonly WebSocket: typeof WebSocket;
  /** Opens what looks like a WebSocket where none gets through. Undefined: there is no other way. */
  readonly overHttp?: (url: string) => WebSocket;
  /** Asks the server at a WebSocket's address whom a token names. Undefined: it cannot be asked. */
  readonly whose?: (url: string, token: string) => Promise<string>;
  readonly indexedDB: IDBFactory | null;
  readonly locks: LockManager | null;
  readonly BroadcastChannel: typeof BroadcastChannel | null;
  /** Targets of `online`, `pageshow`, `visibilitychange` and similar events. */
  readonly events: readonly EventTarget[];
  readonly visible: () => boolean;
  /** The page's address, "" outside a page. */
  readonly base: string;
}

/** Locks exist only in secure contexts (https, localhost). They are optional. */
export function browserHost(): Host {
  const world = globalThis as Partial<typeof globalThis>;
  return {
    now: () => performance.now(),
    random: Math.random,
    id: () => [...crypto.getRandomValues(new Uint8Array(9))].map((byte) => byte.toString(36)).join(""),
    WebSocket: world.WebSocket as typeof WebSocket,
    indexedDB: world.indexedDB ?? null,
    locks: world.navigator?.locks ?? null,
    BroadcastChannel: world.BroadcastChannel ?? null,
    events: [world.window, world.document].filter((target) => target !== undefined),
    visible: () => world.document?.visibilityState !== "hidden",
    base: world.location?.href ?? "",
  };
}
