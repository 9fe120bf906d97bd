/** What happens to the page that a client lives in. */

import type { Host } from "../session/host.js";

/** What a client does about it. */
export interface PageListener {
  /** The network changed, or the page is visible again. */
  wake(): void;
  /** A frozen or cached page holds no locks and no connection, so that another tab can take over. */
  suspend(): void;
  /** It goes on after that. */
  comeBack(): void;
}

/** Tell `listener` until `signal` is aborted. */
export function watchPage(host: Host, signal: AbortSignal, listener: PageListener): void {
  const on = (names: string, act: () => void) => {
    for (const target of host.events) {
      for (const name of names.split(" ")) target.addEventListener(name, act, { signal });
    }
  };
  on("online offline", () => listener.wake());
  on("visibilitychange", () => {
    if (host.visible()) listener.wake();
  });
  on("freeze pagehide", () => listener.suspend());
  on("resume pageshow", () => listener.comeBack());
}
