/** A user's mailboxes as the stream `user/<id>` tells them: the browser's copy of the server's fold. Pure. */

import type { EmailRow, MailStatus, UserId } from "huahuo-client";

export type Row = Readonly<EmailRow>;

/** An event as it came; what a type brings is checked where it is used. */
export type Fact = { readonly type: string; readonly timestamp: string } & Readonly<Record<string, unknown>>;

const BUSY: ReadonlySet<MailStatus> = new Set<MailStatus>(["queued", "processing"]);

export const isBusy = (row: Row): boolean => BUSY.has(row.status);

/**
 * Rows by id. A row that changes is replaced, never altered, so a view compares rows by
 * identity. `revision` grows with every change.
 */
export class Mailboxes {
  readonly rows = new Map<number, Row>();
  revision = 0;
  /** How many rows are in a check now. */
  busy = 0;

  constructor(private readonly userId: UserId) {}

  /** A snapshot's rows replace everything. */
  load(rows: readonly Row[]): void {
    this.rows.clear();
    this.busy = 0;
    for (const row of rows) this.put(row);
    this.revision += 1;
  }

  apply(fact: Fact): void {
    const id = fact["email_id"];
    if (typeof id !== "number") return;
    if (fact.type === "email_added") {
      this.put(added(this.userId, id, fact));
    } else {
      const row = this.rows.get(id);
      if (!row) return;
      if (fact.type === "email_deleted") this.remove(row);
      else {
        const next = changed(row, fact);
        if (next === row) return;
        this.put(next);
      }
    }
    this.revision += 1;
  }

  private put(row: Row): void {
    const before = this.rows.get(row.id);
    this.busy += Number(isBusy(row)) - Number(before !== undefined && isBusy(before));
    this.rows.set(row.id, row);
  }

  private remove(row: Row): void {
    this.busy -= Number(isBusy(row));
    this.rows.delete(row.id);
  }
}

function added(userId: UserId, id: number, fact: Fact): Row {
  const { email, mail_type, server, port, use_ssl } = fact as unknown as Row;
  return {
    id, user_id: userId, email, mail_type, server, port, use_ssl,
    status: "idle", progress: 0, message: "", last_check_time: null, mail_count: 0, watched: false,
    created_at: fact.timestamp,
  };
}

function changed(row: Row, fact: Fact): Row {
  const said = fact as unknown as Row;
  switch (fact.type) {
    case "check_progress":
      return { ...row, progress: said.progress, message: said.message };
    case "email_status_update": {
      const { status, message, error_class } = said;
      const last_check_time = status === "ok" ? fact.timestamp : row.last_check_time;
      return filled({ ...row, status, message, last_check_time, error_class });
    }
    case "mail_received":
      return { ...row, mail_count: row.mail_count + 1 };
    case "email_updated": {
      const { mail_type = row.mail_type, server = row.server, port = row.port, use_ssl = row.use_ssl, watched = row.watched } = said;
      const { tags = row.tags, note = row.note, group = row.group } = said;
      const folders = said.folders === undefined ? row.folders : said.folders ?? undefined;
      const claim = said.claim === undefined ? row.claim : said.claim ?? undefined;
      return filled({ ...row, mail_type, server, port, use_ssl, watched, tags, note, group, folders, claim });
    }
    default:
      return row;
  }
}

const OPTIONAL = ["tags", "note", "group", "error_class"] as const;

/** Without the fields that have no value, as the server leaves them out. */
function filled(row: { -readonly [K in keyof Row]: Row[K] | undefined }): Row {
  for (const name of OPTIONAL) if (!row[name]?.length) delete row[name];
  return row as Row;
}
