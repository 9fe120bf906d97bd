/** The commands of the mailbox page, with what is said about their outcome. */

import { chunks } from "../model/table";
import type { Row } from "../model/mailboxes";
import { confirm } from "./confirm";
import { type Console, explain } from "./console";
import { toast } from "./toasts";
import { heard, w } from "./words";

/** Run a command; what it throws is told to the reader. Null: it failed. */
export async function attempt<T>(command: () => Promise<T>): Promise<T | null> {
  try {
    return await command();
  } catch (error) {
    toast(explain(error, heard), "error");
    return null;
  }
}

export async function check(page: Console, ids: readonly number[]): Promise<void> {
  await attempt(async () => {
    const replies = await Promise.all(chunks(ids).map((email_ids) => page.feed.send("check_emails", { email_ids })));
    const count = (lists: number[][]): number => lists.reduce((sum, list) => sum + list.length, 0);
    const accepted = count(replies.map((reply) => reply.accepted));
    const skipped = count(replies.map((reply) => reply.skipped));
    if (ids.length > 1 || accepted === 0) {
      toast(w.value.mailboxes.checking(accepted, skipped), accepted > 0 ? "success" : "warning");
    }
  });
}

export async function cancel(page: Console, ids: readonly number[]): Promise<void> {
  await attempt(async () => {
    const replies = await Promise.all(chunks(ids).map((email_ids) => page.feed.send("cancel_check", { email_ids })));
    const count = replies.reduce((sum, { cancelled }) => sum + cancelled.length, 0);
    if (ids.length > 1) toast(w.value.mailboxes.cancelled(count), "success");
  });
}

export async function watch(page: Console, ids: readonly number[], on: boolean): Promise<void> {
  await attempt(async () => {
    let count = 0;
    for (const email_ids of chunks(ids)) {
      count += (await page.feed.send("watch_emails", { email_ids, on })).accepted.length;
    }
    if (ids.length > 1) toast(w.value.mailboxes.watching(count, on), "success");
  });
}

/** Ask, then delete. Whether it was done. */
export async function remove(page: Console, rows: readonly Row[]): Promise<boolean> {
  const [first] = rows;
  if (!first) return false;
  const words = w.value.mailboxes;
  if (!(await confirm(words.confirmDelete(rows.length, first.email), words.confirmHint, words.remove))) return false;
  const done = await attempt(async () => {
    let count = 0;
    for (const email_ids of chunks(rows.map(({ id }) => id))) {
      count += (await page.feed.send("delete_emails", { email_ids })).email_ids.length;
    }
    toast(words.deleted(count), "success");
  });
  return done !== null;
}
