/** What the tests of a client on a simulated server say again and again. */

import { expect, vi } from "vitest";
import { type HuahuoError, MemoryCursors } from "../../src/index.js";
import type { PageOptions, Tab, World } from "./world.js";

/** Wait until `look` throws nothing. */
export const until = <T>(look: () => T | Promise<T>): Promise<T> => vi.waitFor(look, { timeout: 3000, interval: 1 });
export const state = (tab: Tab) => tab.client.state.value.name;
export const code = (error: unknown) => (error as HuahuoError).code;
/** The code with which it is refused. */
export const refusal = (work: Promise<unknown>) => work.then(() => "nothing", code);

/** A page whose client is online. */
export async function online(world: World, options: PageOptions = {}): Promise<Tab> {
  const tab = world.tab({ cursors: new MemoryCursors("me"), ...options });
  await until(() => expect(state(tab)).toBe("online"));
  return tab;
}
