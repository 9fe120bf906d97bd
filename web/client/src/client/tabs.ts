/**
 * Which of the tabs owns the connection, and how the others reach it.
 *
 * The owner holds a Web Lock; the others queue for it, so that the browser itself appoints the next
 * one when a tab closes, crashes or is put away. A new owner announces itself with a new `term`, and
 * every tab attaches its readers and repeats its unanswered commands there; each tab knows best where
 * its readers stand. A tab holds a lock of its own, by which the owner learns that it is gone.
 */

import type { Host } from "../session/host.js";
import { report } from "../model/observable.js";
import type { EngineMessage, StateData, TabMessage } from "../wire/messages.js";

/** A stored place was moved on by the tab that applies a stream's events for all tabs. */
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
  /** Server and user: tabs of different users have nothing in common. */
  readonly scope: string;
  /** This tab. */
  readonly tab: string;
  /** This tab owns the connection from now on. */
  readonly own: () => void;
  /** Somebody else does (again). */
  readonly follow: (state: StateData) => void;
  /** To this tab, from the owner. */
  readonly down: (message: EngineMessage) => void;
  /** To this tab as the owner, from another. */
  readonly up: (tab: string, message: TabMessage) => void;
  /** A tab that was heard of is gone. */
  readonly gone: (tab: string) => void;
  readonly applied: (applied: Applied) => void;
  /** The connection, as its owner sees it. */
  readonly state: () => StateData;
}

const isEnd = (message: EngineMessage): boolean => message.is === "state" && message.state.name === "stopped";

export class Tabs {
  private channel: BroadcastChannel | null = null;
  private readonly locks: LockManager;
  private term = "";
  /** The term of the owner before this tab. */
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

  /** Take part. */
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

  /** Let go of everything: the next tab takes over. */
  leave(): void {
    this.over.abort();
    this.owner = false;
    this.term = "";
    this.known.clear();
    this.release.splice(0).forEach((release) => release());
    this.channel?.close();
    this.channel = null;
  }

  /** To the owner; lost if there is none, but a new one asks for everything. */
  up(message: TabMessage): void {
    if (this.owner) this.options.up(this.options.tab, message);
    else if (this.term) this.post({ kind: "up", term: this.term, from: this.options.tab, message });
  }

  /** From the owner to a tab (null: to all). */
  down(to: string | null, message: EngineMessage): void {
    const { tab, down } = this.options;
    if (to !== tab) this.post({ kind: "down", term: this.term, to, message }); // first: this tab may leave
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
        // the last words of the owner before may come after its lock: the end is the end for all tabs
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

  /** A tab's own lock is free when the tab is gone. */
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

  /** Hold a lock, once it is free, until `leave`. */
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
