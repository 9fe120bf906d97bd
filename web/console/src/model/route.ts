/** Where in the console one is, as written behind the `#` of the address. Pure. */

export const PAGES = ["mailboxes", "search", "live", "programs", "account", "users", "audit", "clients", "nodes", "notify"] as const;
export type Page = (typeof PAGES)[number];

export interface Route {
  readonly page: Page;
  readonly mailbox: number | null;
  readonly mail: number | null;
}

const HOME: Route = { page: "mailboxes", mailbox: null, mail: null };

export function parseRoute(hash: string): Route {
  const [page = "", mailbox, mail] = hash.replace(/^#\/?/, "").split("/");
  if (!(PAGES as readonly string[]).includes(page)) return HOME;
  const known = page as Page;
  if (known !== "mailboxes") return { ...HOME, page: known };
  return { page: known, mailbox: whole(mailbox), mail: whole(mail) };
}

export function formatRoute({ page, mailbox, mail }: Route): string {
  return `#/${[page, mailbox, mailbox === null ? null : mail].filter((part) => part !== null).join("/")}`;
}

/** The token of a link like `…/#token=…`. */
export function tokenIn(hash: string): string | null {
  return new URLSearchParams(hash.replace(/^#/, "")).get("token") || null;
}

const whole = (text: string | undefined): number | null =>
  text !== undefined && /^-?\d{1,16}$/.test(text) ? Number(text) : null;
