/** The page that is shown, in step with the address. */

import { shallowRef } from "vue";
import { formatRoute, parseRoute, type Route, tokenIn } from "../model/route";

export const route = shallowRef<Route>(parseRoute(location.hash));

export function go(to: Partial<Route>): void {
  const next = { page: route.value.page, mailbox: null, mail: null, ...to };
  if (formatRoute(next) !== location.hash) location.hash = formatRoute(next);
}

addEventListener("hashchange", () => {
  // another sign-in link was opened in this tab
  if (tokenIn(location.hash)) location.reload();
  else route.value = parseRoute(location.hash);
});
