/** What one sign-in shows: the streams folded into state, and refs that tell the page to look again. */

import { HuahuoError, type Outcome, type User } from "huahuo-client";
import { inject, type InjectionKey, ref, shallowRef, watch } from "vue";
import { Journal } from "../model/journal";
import { type Fact, Mailboxes, type Row } from "../model/mailboxes";
import { Rates } from "../model/rates";
import { Feed, SYSTEM, WHOLE_LOG } from "./feed";
import { atMostEvery, onceAFrame } from "./frames";
import { type Level, toast } from "./toasts";
import { language, w } from "./words";

export const CONSOLE: InjectionKey<Console> = Symbol("console");

export function useConsole(): Console {
  const found = inject(CONSOLE);
  if (!found) throw new Error("no console is provided here");
  return found;
}

const FACTS_EVERY_MS = 100;
const LEVELS: Readonly<Record<string, Level>> = { info: "info", warning: "warning", error: "error" };

let count = 0;

export class Console {
  /** Which sign-in of this page it is. */
  readonly number = ++count;
  readonly feed: Feed;
  readonly user = shallowRef<User | null>(null);
  mailboxes = new Mailboxes(0);
  /** The first snapshot of the mailboxes has come. */
  readonly loaded = ref(false);
  /** Whether the service has mail: without it the state of a user has no mailboxes. */
  readonly mail = ref(true);
  /** Grows when `mailboxes` has changed, once a frame. */
  readonly rowsChanged = ref(0);
  readonly journal = new Journal();
  /** Grows when `journal` has. */
  readonly journalChanged = ref(0);
  readonly rates = new Rates();
  /** Grows when something about the connection has changed. */
  readonly feedChanged = ref(0);
  readonly wholeLog = ref(false);
  /** Whether the log has several nodes. Known to administrators only. */
  readonly several = ref(false);
  private readonly mailListeners = new Set<(fact: Fact | null) => void>();
  private readonly tellRows = onceAFrame(() => (this.rowsChanged.value = this.mailboxes.revision));
  private readonly tellJournal = atMostEvery(FACTS_EVERY_MS, () => (this.journalChanged.value += 1));
  private readonly tellFeed = atMostEvery(FACTS_EVERY_MS, () => (this.feedChanged.value += 1));
  private endWholeLog: (() => void) | null = null;
  private readonly endSpeaking: () => void;

  constructor(token: string) {
    this.feed = new Feed(token, language.value, {
      changed: () => {
        if (this.feed.user && !this.user.value) this.begin(this.feed.user);
        this.tellFeed();
      },
      resumed: (stream, outcome, after) => this.resumed(stream, outcome, after),
    });
    this.endSpeaking = watch(language, (chosen) => this.feed.speak(chosen));
  }

  /** Hear of each new mail; null: what was known of mails may be out of date. */
  onMail(listener: (fact: Fact | null) => void): () => void {
    this.mailListeners.add(listener);
    return () => this.mailListeners.delete(listener);
  }

  /** Show every event of every stream, for admins. */
  followWholeLog(follow: boolean): void {
    if (follow === this.wholeLog.value) return;
    this.wholeLog.value = follow;
    this.endWholeLog?.();
    this.endWholeLog = !follow ? null : this.feed.follow(WHOLE_LOG, "head", {
      events: (facts, first) => this.saw(WHOLE_LOG, first, facts),
      denied: (error) => {
        this.wholeLog.value = false;
        toast(error.message, "error");
      },
    });
  }

  close(): void {
    this.endSpeaking();
    this.feed.close();
  }

  private begin(user: User): void {
    this.user.value = user;
    if (user.is_admin) void this.lookForNodes();
    this.mailboxes = new Mailboxes(user.user_id);
    this.feed.follow(`user/${user.user_id}`, "snapshot", {
      snapshot: (state) => {
        this.mailboxes.load((state["emails"] ?? []) as Row[]);
        this.loaded.value = true;
        this.mail.value = "emails" in state;
        this.tellRows();
        this.mailListeners.forEach((listener) => listener(null));
      },
      events: (facts, first) => {
        for (const fact of facts) {
          this.mailboxes.apply(fact);
          if (fact.type === "mail_received") this.mailListeners.forEach((listener) => listener(fact));
        }
        this.tellRows();
        this.saw(`user/${user.user_id}`, first, facts);
      },
    });
    this.feed.follow(SYSTEM, "stored", {
      events: (facts, first) => {
        for (const fact of facts) {
          if (fact.type === "system_notification") {
            toast(String(fact["message"]), LEVELS[String(fact["level"])] ?? "info", true);
          }
        }
        this.saw(SYSTEM, first, facts);
      },
    });
    for (const name of user.groups) {
      const stream = `group/${name}`;
      this.feed.follow(stream, "head", { events: (facts, first) => this.saw(stream, first, facts) });
    }
  }

  private async lookForNodes(): Promise<void> {
    try {
      this.several.value = ((await this.feed.send("get_nodes"))["data"] as unknown[]).length > 0;
    } catch {
      // an older service, or one that is closing: there is no page of nodes
    }
  }

  private saw(stream: string, first: number, facts: readonly Fact[]): void {
    if (this.wholeLog.value && stream !== WHOLE_LOG) return; // it comes a second time, on `log`
    const now = Date.now();
    const live = this.feed.streams.get(stream)?.live ?? false;
    this.rates.add(now, facts.length, null);
    if (live) for (const fact of facts) this.rates.add(now, 0, now - Date.parse(fact.timestamp));
    this.journal.add(stream, first, facts);
    this.tellJournal();
  }

  private resumed(stream: string, outcome: Outcome, after: number): void {
    this.journal.mark(stream, after, { type: outcome, timestamp: new Date().toISOString() });
    if (outcome === "gap" || outcome === "reset") toast(w.value.outcome[outcome](stream), "warning");
    this.tellJournal();
  }
}

/** Messages of refusals that say why in their details only: those of keys, webhooks and users. */
const ONLY_DETAILS: ReadonlySet<string> = new Set(["操作失败", "that was not done"]);

/** What went wrong, for a reader. */
export function explain(error: unknown, heard: (text: string) => string): string {
  if (!(error instanceof HuahuoError)) return String(error);
  const known = w.value.errors[error.code];
  const said = heard(error.message);
  if (error.code === "internal") return `${known ?? said} (${String(error.details)})`;
  if (ONLY_DETAILS.has(error.message) && error.details !== "") return `${said} (${String(error.details)})`;
  return said || known || error.code;
}
