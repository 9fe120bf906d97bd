/** The data that an application gets from the client: events, items of a stream, statuses. */

import type { HuahuoError } from "./errors.js";

/** Where to begin: after a seq, at the head, at the oldest event, or with the current state. */
export type After = number | "head" | "start" | "snapshot";

/** A seq with its check from the server: a digest of the log up to that event. */
export type Check = readonly [seq: number, check: string];

/**
 * A place in a stream: the last processed seq, in the log with this id. `check` is the last one received up
 * to there. If the server finds that it differs, the events before this place are not those that were
 * processed, so it sends a snapshot.
 */
export interface Cursor {
  readonly log: string;
  readonly seq: number;
  readonly check?: Check;
}

/** A cursor, with the check if there is one. */
export const cursorAt = (log: string, seq: number, check: Check | undefined): Cursor =>
  check ? { log, seq, check } : { log, seq };

export type MailStatus = "idle" | "queued" | "processing" | "ok" | "error" | "need_reauth" | "cancelled";
export type MailType = "outlook" | "imap" | "gmail" | "qq" | "163" | "126" | (string & {});

export type ErrorClass = "auth" | "network" | "tls" | "limit" | "provider_down" | "protocol" | "config";

export type JobOutcome = "done" | "failed" | "cancelled" | "interrupted";
export type JobStatus = "new" | "running" | "cancelling" | JobOutcome;

/**
 * Event types and their fields. Add your own:
 *
 * ```ts
 * declare module "huahuo-client" {
 *   interface EventTypes { deploy_started: { version: string } }
 * }
 * ```
 */
export interface EventTypes {
  email_added: {
    email_id: number; email: string; mail_type: MailType; server: string; port: number; use_ssl: boolean;
  };
  email_updated: { email_id: number; watched?: boolean; tags?: readonly string[]; note?: string; group?: string; folders?: readonly string[] | null; claim?: Claim | null } & Partial<EventTypes["email_added"]>;
  email_deleted: { email_id: number };
  email_status_update: {
    email_id: number; status: MailStatus; message: string;
    /** 0: it comes from the watcher of the mailbox. */
    check_id: number;
    error_class?: ErrorClass; advice?: string;
  };
  check_progress: { email_id: number; progress: number; message: string; check_id: number };
  mail_received: {
    email_id: number; mail_id: number; subject: string; sender: string; received_time: string;
    folder: string; has_attachments: boolean;
    /** The verification code in it, and how sure that is (0.5 to 1). Absent if none was found. */
    code?: string; code_confidence?: number;
  };
  job_started: { name: string; user: number | string | null };
  job_progress: { percent: number; message: string };
  job_message: { message: string };
  job_cancel_requested: { by: number | string | null };
  job_ended: { outcome: JobOutcome; error: string; message: string };
  system_notification: { message: string; level: "info" | "warning" | "error" };
}

/** The fields of every event besides its own. `in`: on the stream `log`, the stream that it belongs to. */
export interface EventFrame {
  readonly stream: string;
  readonly seq: number;
  readonly timestamp: string;
  readonly in?: { readonly stream: string; readonly seq: number };
}

/** One event. `switch (event.type)` narrows it. */
export type StreamEvent = {
  [T in keyof EventTypes]: EventFrame & { readonly type: T } & Readonly<EventTypes[T]>;
}[keyof EventTypes];

/** A run of events without a gap. */
export interface Batch {
  readonly kind: "batch";
  readonly stream: string;
  readonly log: string;
  readonly first: number;
  readonly last: number;
  readonly events: readonly StreamEvent[];
}

/** The state after event `last`, which replaces the known one. `outcome` says why it was sent. */
export interface Snapshot<State = Record<string, unknown>> {
  readonly kind: "snapshot";
  readonly stream: string;
  readonly log: string;
  readonly last: number;
  readonly state: State;
  readonly outcome: "gap" | "reset" | "snapshot";
}

/** The events from `first` to `last` were compacted away. */
export interface Skipped {
  readonly kind: "skipped";
  readonly stream: string;
  readonly log: string;
  readonly first: number;
  readonly last: number;
  readonly reason: string;
}

export type Item = Batch | Snapshot | Skipped;

/** How the server placed a reader in its stream. */
export type Outcome = "fresh" | "resumed" | "gap" | "reset" | "snapshot" | "denied" | "pending";

/** A language in which the server can say texts for people. */
export type Language = "en" | "zh";

/** The id of a user as the token says it. */
export type UserId = number | string;

/** The server's view of the token. */
export interface User {
  readonly user_id: UserId;
  readonly username: string;
  readonly is_admin: boolean;
  readonly groups: readonly string[];
}

/**
 * The connection, as every tab sees it.
 *
 * ```
 * connecting ──▶ online ──▶ offline ──▶ connecting …
 *      └──────────▶ offline     any ──▶ stopped
 * ```
 */
export type State =
  | { readonly name: "connecting" }
  | { readonly name: "online"; readonly log: string; readonly session: string; readonly user: User }
  | {
      readonly name: "offline"; readonly code: number | null; readonly reason: string;
      readonly retryMs: number;
    }
  | { readonly name: "stopped"; readonly error: HuahuoError };

/** Other news, for logs and for a page that shows them. */
export type Status =
  | { readonly type: "outcome"; readonly stream: string; readonly outcome: Outcome; readonly after: number; readonly head: number }
  | { readonly type: "live"; readonly stream: string; readonly seq: number }
  | { readonly type: "lag"; readonly stream: string; readonly behind: number }
  | { readonly type: "token_expiring"; readonly in_s: number }
  | { readonly type: "goaway"; readonly code: number; readonly reason: string }
  | { readonly type: "problem"; readonly code: string; readonly message: string };

/** The place of the event that a command caused. */
export interface At {
  readonly stream: string;
  readonly seq: number;
  /** Of the log after the commit. */
  readonly position?: number;
}

/** The answer to a command. */
export interface Reply {
  readonly type: string;
  readonly id: string;
  readonly message?: string;
  readonly at?: At;
  readonly duplicate?: boolean;
}

export interface EmailRow {
  id: number; user_id: UserId; email: string; mail_type: MailType; server: string; port: number;
  use_ssl: boolean; status: MailStatus; progress: number; message: string;
  last_check_time: string | null; mail_count: number; created_at: string;
  /** Whether it is watched for new mails. */
  watched: boolean;
  /** Present if they have a value. `error_class`: of the last check, if it failed. */
  tags?: readonly string[]; note?: string; group?: string; error_class?: ErrorClass;
  /** Read besides INBOX, where the user has chosen them. */
  folders?: readonly string[];
  /** Somebody has it until then: compare the time. */
  claim?: Claim;
}

/** A mailbox that somebody has for a while, under this address. */
export interface Claim { address: string; since: string; until: string }

export interface MailRecord {
  mail_id: number; email_id: number; subject: string; sender: string; received_time: string;
  folder: string; has_attachments: boolean; size: number;
  /** As in `mail_received`. */
  code?: string; code_confidence?: number;
  /** It is unread on the server, as the last check saw it. */
  unread?: boolean;
}

/** Without words: all mails that the other fields admit. `since` is included, `until` is not. */
export interface MailSearch {
  query?: string; email_ids?: readonly number[]; group?: string; tag?: string;
  since?: string; until?: string; has_code?: boolean; has_attachments?: boolean; unread?: boolean;
  sort?: "received_time" | "-received_time"; limit?: number; before?: string;
}

/** A mail that was found, with the address of its mailbox. */
export interface FoundMail extends MailRecord { email: string }

interface MailboxFields {
  mail_type?: MailType; password?: string; client_id?: string; refresh_token?: string;
  server?: string; port?: number; use_ssl?: boolean; proxy?: string;
  /** The user name, where it is not the address. */
  login?: string;
}

export type EmailSort = "id" | "email" | "status" | "last_check_time" | "mail_count" | "created_at";

export interface EmailFilter {
  status?: MailStatus | readonly MailStatus[];
  mail_type?: MailType | readonly MailType[];
  /** An empty `tag` or `group`: mailboxes without one. */
  tag?: string | readonly string[];
  group?: string | readonly string[];
  error_class?: ErrorClass | readonly ErrorClass[];
  /** Searched for in address, server, message and note. */
  text?: string;
}

/** The mailboxes that a command is about: a list, or all that a filter admits (`{}`: all). */
export type Chosen = { email_ids: readonly number[] } | { filter: EmailFilter };

/** One reason why checks failed, and the first of the mailboxes that have it. */
export interface FailureReason {
  status: "error" | "need_reauth"; error_class: ErrorClass | ""; message: string; advice: string;
  count: number; email_ids: number[];
}

/** A sign-in with a code that the user enters at `verification_uri`, on any device. */
export interface Signin {
  email: string; state: "pending" | "success" | "error" | "expired" | "denied"; message: string;
  user_code?: string; verification_uri?: string; expires_in_s?: number; interval_s?: number;
  email_id?: number; details?: string;
  /** The mailbox goes back to its provider's hosts (`host:port`), or went there. */
  moves?: { from: string; to: string };
}

/** Commands, their fields and their replies. Add your own by declaration merging, as with events. */
export interface Commands {
  /** Without fields: all rows. With any field: a page, and `next` and `total` in the reply. */
  get_all_emails: {
    fields: { limit?: number; before?: string; sort?: EmailSort | `-${EmailSort}`; filter?: EmailFilter };
    reply: { data: EmailRow[]; stream: string; seq: number; next?: string | null; total?: number };
  };
  add_email: { fields: MailboxFields & { email: string; mail_type: MailType }; reply: { email_id: number } };
  /** Have one of the user's own mailboxes for a while; its code: `GET /mailboxes/<address>/code?wait=60`. */
  claim_mailbox: {
    fields: { seconds?: number; alias?: string; mail_type?: MailType; tag?: string; group?: string };
    reply: { email_id: number; address: string; until: string };
  };
  release_mailbox: { fields: { email_id: number }; reply: { email_id: number } };
  update_email: { fields: MailboxFields & { email_id: number; folders?: readonly string[] | null }; reply: { email_id: number } };
  delete_emails: { fields: Chosen; reply: { email_ids: number[] } };
  check_emails: { fields: Chosen & { login?: boolean }; reply: { accepted: number[]; skipped: number[] } };
  cancel_check: { fields: Chosen; reply: { cancelled: number[] } };
  label_emails: {
    fields: Chosen & { add_tags?: readonly string[]; remove_tags?: readonly string[]; note?: string; group?: string };
    reply: { email_ids: number[]; skipped?: number[] };
  };
  get_groups: { fields: Record<string, never>; reply: { data: { group: string; count: number; proxy: boolean }[] } };
  set_group_proxy: { fields: { group: string; proxy: string }; reply: object };
  get_folders: {
    fields: { email_id: number };
    reply: { data: string[]; junk: string | null; chosen: string[] | null; default: string[] };
  };
  get_failures: { fields: { filter?: EmailFilter; limit?: number }; reply: { data: FailureReason[]; total: number } };
  watch_emails: {
    fields: { on: boolean } & ({ email_ids: number[] } | { filter: EmailFilter });
    reply: { accepted: number[]; refused: number[] };
  };
  import_emails: {
    fields: { data: string; mail_type?: MailType; validate?: boolean | "login" | "check"; job_id?: number };
    reply: { total: number; success: number; failed: number; failed_details: { line: number; reason: string }[] };
  };
  begin_import: { fields: { lines: number }; reply: { job_id: number } };
  end_import: { fields: { job_id: number; stopped?: boolean }; reply: { job_id: number; success: number; failed: number } };
  export_emails: {
    fields: {
      email_ids?: readonly number[]; filter?: EmailFilter; format?: "lines" | "csv"; secrets?: boolean;
      limit?: number; before?: number; owner?: UserId;
    };
    reply: { data: string; count: number; next: number | null };
  };
  get_mail_records: {
    fields: { email_id: number; before?: unknown; to?: string; limit?: number; sort?: "received_time" | "-received_time" };
    reply: { email_id: number; data: MailRecord[]; next: unknown };
  };
  get_mail: { fields: { mail_id: number }; reply: Record<string, unknown> };
  /** `index` counts the attachments of `get_mail` from 0; `data` is base64. */
  get_attachment: {
    fields: { mail_id: number; index: number };
    reply: { mail_id: number; index: number; name: string; content_type: string; size: number; data: string };
  };
  /** The mail as it was sent; `data` is base64. */
  get_source: { fields: { mail_id: number }; reply: { mail_id: number; size: number; data: string } };
  search_mails: { fields: MailSearch; reply: { data: FoundMail[]; next: string | null; behind: number } };
  signin_email: { fields: { email: string; mail_type?: MailType; client_id?: string }; reply: Signin };
  get_signin: { fields: { email: string }; reply: Signin };
  cancel_job: { fields: { job_id: number }; reply: { job_id: number } };
  publish: { fields: { stream: string; type: string } & Record<string, unknown>; reply: object };
  revoke: { fields: { user_id: UserId } | { jti: string }; reply: object };
}
