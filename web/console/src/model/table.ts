/** Which mailboxes the table shows, in which order. Pure. */

import type { MailStatus } from "huahuo-client";
import type { Row } from "./mailboxes";

export type SortKey = "email" | "status" | "last_check_time" | "mail_count";

export interface Arrangement {
  readonly query: string;
  readonly status: MailStatus | "all";
  /** Null: any; empty: mailboxes without one. */
  readonly tag: string | null;
  readonly group: string | null;
  readonly sort: SortKey;
  readonly descending: boolean;
}

/** What needs a look comes first. */
const URGENCY: Readonly<Record<MailStatus, number>> = {
  need_reauth: 0, error: 1, processing: 2, queued: 3, cancelled: 4, ok: 5, idle: 6,
};

export function arrange(rows: Iterable<Row>, by: Arrangement): Row[] {
  const words = by.query.toLowerCase().split(/\s+/).filter(Boolean);
  const found: Row[] = [];
  for (const row of rows) {
    if (by.status !== "all" && row.status !== by.status) continue;
    if (by.tag !== null && !(by.tag === "" ? !row.tags : row.tags?.includes(by.tag))) continue;
    if (by.group !== null && (row.group ?? "") !== by.group) continue;
    if (words.length > 0) {
      const text = `${row.email} ${row.server} ${row.mail_type} ${row.note ?? ""}`.toLowerCase();
      if (!words.every((word) => text.includes(word))) continue;
    }
    found.push(row);
  }
  const sign = by.descending ? -1 : 1;
  const order = ORDERS[by.sort];
  return found.sort((a, b) => sign * order(a, b) || a.id - b.id);
}

/** All tags and groups that rows have, in order. */
export function labelsOf(rows: Iterable<Row>): { tags: string[]; groups: string[] } {
  const tags = new Set<string>();
  const groups = new Set<string>();
  for (const row of rows) {
    row.tags?.forEach((tag) => tags.add(tag));
    if (row.group) groups.add(row.group);
  }
  return { tags: [...tags].sort(), groups: [...groups].sort() };
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

const ORDERS: Readonly<Record<SortKey, (a: Row, b: Row) => number>> = {
  email: (a, b) => compare(a.email, b.email),
  status: (a, b) => URGENCY[a.status] - URGENCY[b.status],
  last_check_time: (a, b) => compare(a.last_check_time ?? "", b.last_check_time ?? ""),
  mail_count: (a, b) => a.mail_count - b.mail_count,
};

/** Lists longer than the server takes at once (PROTOCOL 6: 1,000 ids). */
export const IDS_MAX = 1000;

export function chunks(ids: readonly number[], size = IDS_MAX): number[][] {
  const parts: number[][] = [];
  for (let at = 0; at < ids.length; at += size) parts.push(ids.slice(at, at + size));
  return parts;
}
