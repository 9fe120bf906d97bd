/**
 * Which of the tabs owns the connection, and how the others reach it.
 *
 * The owner holds a Web Lock and the other tabs queue for it, so the browser appoints the next owner when a
 * tab closes, crashes or is frozen. A new owner announces itself with a new `term`. Then every tab attaches
 * its readers, whose cursors it keeps, and repeats its unanswered commands. Each tab also holds a lock of its
 * own, from whose release the owner learns that the tab is gone.
 */

import type { Host } from "../session/host.js";
import { report } from "../model/observable.js";
import type { EngineMessage, StateData, TabMessage } from "../wire/messages.js";

/** The tab that applies a stream's events for all tabs advanced the stored cursor. */
export interface Applied {
  readonly stream: string;
  readonly log: string;
  readonly seq: number;
}

type Packet =
  | { readonly kind: "hello"; readonly from: string }
  | { readonly kind: "owner"; readonly term: string; readonly state: StateData }
  | { readonly kind: "up"; readonly term: string; readonly from: string; readonly message: TabMessage }
  | { readonly kind: "down"; readonly term: string; readonly to: string | null; readonly message: EngineMessage }
  | { readonly kind: "applied"; readonly applied: Applied };

export interface TabsOptions {
  readonly host: Host;
  /** Server and user, because only tabs of the same user share a connection. */
  readonly scope: string;
  /** The id of this tab. */
  readonly tab: string;
  /** Called when this tab becomes the owner. */
  readonly own: () => void;
  /** Called when another tab becomes the owner. */
  readonly follow: (state: StateData) => void;
  /** Called with a message from the owner to this tab. */
  readonly down: (message: EngineMessage) => void;
  /** Called, if this tab is the owner, with a message from a tab. */
  readonly up: (tab: string, message: TabMessage) => void;
  /** Called when a known tab is gone. */
  readonly gone: (tab: string) => void;
  readonly applied: (applied: Applied) => void;
  /** The state of the connection, asked of the owner. */
  readonly state: () => StateData;
}

const isEnd = (message: EngineMessage): boolean => message.is === "state" && message.state.name === "stopped";

export class Tabs {
  private channel: BroadcastChannel | null = null;
  private readonly locks: LockManager;
  private term = "";
  /** The term of the previous owner. */
  private before = "";
  private owner = false;
  private release: (() => void)[] = [];
  private readonly known = new Set<string>();
  private over = new AbortController();

  constructor(private readonly options: TabsOptions) {
    this.locks = options.host.locks as LockManager;
  }

  static possible(host: Host): boolean {
    return host.locks !== null && host.BroadcastChannel !== null;
  }

  /** Join the tabs of this scope. */
  join(): void {
    const { host, scope, tab, own } = this.options;
    this.over = new AbortController();
    this.channel = new (host.BroadcastChannel as typeof BroadcastChannel)(`huahuo:${scope}`);
    this.channel.onmessage = (event: MessageEvent<Packet>) => this.heard(event.data);
    this.hold(`huahuo:${scope}:tab:${tab}`, () => this.post({ kind: "hello", from: tab }));
    this.hold(`huahuo:${scope}:owner`, () => {
      this.owner = true;
      this.before = this.term;
      this.term = host.id();
      own();
      this.announce();
    });
  }

  /** Release all locks, so that the next tab takes over. */
  leave(): void {
    this.over.abort();
    this.owner = false;
    this.term = "";
    this.known.clear();
    this.release.splice(0).forEach((release) => release());
    this.channel?.close();
    this.channel = null;
  }

  /** Send to the owner. If there is none the message is lost, but tabs repeat everything to a new owner. */
  up(message: TabMessage): void {
    if (this.owner) this.options.up(this.options.tab, message);
    else if (this.term) this.post({ kind: "up", term: this.term, from: this.options.tab, message });
  }

  /** Send from the owner to a tab (null: to all). */
  down(to: string | null, message: EngineMessage): void {
    const { tab, down } = this.options;
    if (to !== tab) this.post({ kind: "down", term: this.term, to, message }); // first: `down` may make this tab leave
    if (to === null || to === tab) down(message);
  }

  tellApplied(applied: Applied): void {
    this.post({ kind: "applied", applied });
  }

  private heard(packet: Packet): void {
    const { tab } = this.options;
    switch (packet.kind) {
      case "hello":
        if (this.owner) this.announce();
        return;
      case "owner":
        if (this.owner || packet.term === this.term) return;
        this.term = packet.term;
        this.options.follow(packet.state);
        return;
      case "up":
        if (!this.owner || packet.term !== this.term) return;
        this.watch(packet.from);
        this.options.up(packet.from, packet.message);
        return;
      case "down":
        if (packet.to !== null && packet.to !== tab) return;
        // The previous owner's last message may arrive after its lock. If it is the end, all tabs must end.
        if (packet.term !== (this.owner ? this.before : this.term)) return;
        if (this.owner && !isEnd(packet.message)) return;
        this.options.down(packet.message);
        return;
      case "applied":
        this.options.applied(packet.applied);
    }
  }

  private announce(): void {
    this.post({ kind: "owner", term: this.term, state: this.options.state() });
  }

  /** Wait for a tab's own lock, which is free when the tab is gone. */
  private watch(tab: string): void {
    if (this.known.has(tab)) return;
    this.known.add(tab);
    const { scope, gone } = this.options;
    const { signal } = this.over;
    this.locks.request(`huahuo:${scope}:tab:${tab}`, { signal }, () => {
      this.known.delete(tab);
      gone(tab);
    }).catch(() => undefined); // aborted: this tab left
  }

  /** Wait for a lock and hold it until `leave`. */
  private hold(name: string, got: () => void): void {
    const { signal } = this.over;
    this.locks.request(name, { signal }, () => {
      if (signal.aborted) return undefined;
      got();
      return new Promise<void>((release) => this.release.push(release));
    }).catch((error: unknown) => {
      if (!signal.aborted) report(error);
    });
  }

  private post(packet: Packet): void {
    this.channel?.postMessage(packet);
  }
}
