/** What the client needs from the browser, in one place, so that tests can be the browser. */

export interface Host {
  /** Milliseconds that never go back. */
  now(): number;
  /** A number in [0, 1). */
  random(): number;
  /** A text that nobody else has. */
  id(): string;
  readonly WebSocket: typeof WebSocket;
  readonly indexedDB: IDBFactory | null;
  readonly locks: LockManager | null;
  readonly BroadcastChannel: typeof BroadcastChannel | null;
  /** Where `online`, `pageshow`, `visibilitychange` and so on are heard. */
  readonly events: readonly EventTarget[];
  readonly visible: () => boolean;
  /** The page's address, "" outside of a page. */
  readonly base: string;
}

/** Locks exist in secure contexts only (https, localhost); they are not required. */
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
