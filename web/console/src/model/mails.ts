/** The mails of one mailbox as far as they are loaded, newest first. Pure. */

import type { MailRecord } from "huahuo-client";

export type Mail = Readonly<Omit<MailRecord, "size">> & { readonly size?: number };

/** Put mails together: newest first, each once. A page and an event may both bring the same one. */
export function merged(known: readonly Mail[], more: readonly Mail[]): Mail[] {
  const byId = new Map(known.map((mail) => [mail.mail_id, mail]));
  for (const mail of more) byId.set(mail.mail_id, mail);
  return [...byId.values()].sort(
    (a, b) => Date.parse(b.received_time) - Date.parse(a.received_time) || b.mail_id - a.mail_id,
  );
}
