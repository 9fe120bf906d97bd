/** Checks what an application asks for. A refusal is an error that says what to do instead. Pure. */

import { HuahuoError, misuse } from "../model/errors.js";
import type { SubscribeOptions } from "./subscription.js";

/** Actions that the client sends by itself. */
const OWN_ACTIONS = ["authenticate", "ack", "subscribe", "unsubscribe", "heartbeat", "heartbeat_response"];
const MESSAGE_BYTES_MAX = 1 << 20;
const ID_CHARS_MAX = 64;
const STREAM_CHARS_MAX = 128;

/** @throws HuahuoError `misuse` */
export function checkSubscription(stream: string, options: SubscribeOptions): void {
  if (typeof stream !== "string" || stream === "" || stream.length > STREAM_CHARS_MAX) {
    throw misuse("the name of a stream is a text of 1 to 128 characters, like user/42");
  }
  const { after, tabs, onEvent, onBatch, onItem, onSnapshot } = options;
  const given = [onEvent, onBatch, onItem].filter((handler) => handler !== undefined);
  if (given.length > 1) throw misuse("give one of `onEvent`, `onBatch` and `onItem`");
  if (![...given, onSnapshot].some((handler) => typeof handler === "function")) {
    throw misuse("give a function as `onEvent`, `onBatch` or `onItem`");
  }
  if (after !== undefined && tabs) throw misuse("`tabs` is for a stored place; with `after` each tab has its own");
  const isPlace = (seq: unknown) => Number.isSafeInteger(seq) && (seq as number) >= 0;
  const fits = typeof after === "object"
    ? after !== null && isPlace(after.seq) && typeof after.log === "string"
    : after === undefined || isPlace(after) || ["head", "start", "snapshot"].includes(after as string);
  if (!fits) throw misuse("`after` is a seq, a cursor {log, seq}, `head`, `start` or `snapshot`");
  if (after === "snapshot" && !onSnapshot && !onItem) {
    throw misuse("`after: \"snapshot\"` needs `onSnapshot` or `onItem` (a loop: `items`)");
  }
}

/**
 * Encode a command as a message.
 *
 * @throws HuahuoError `misuse`, `too_large`
 */
export function encodeCommand(action: string, id: string, fields: object): string {
  if (typeof action !== "string" || action === "") throw misuse("an action is a text");
  if (OWN_ACTIONS.includes(action)) throw misuse(`the client sends ${action} itself`);
  if (typeof id !== "string" || id === "" || id.length > ID_CHARS_MAX) throw misuse("an id has 1 to 64 characters");
  if (typeof fields !== "object" || fields === null) throw misuse("the fields of a command are an object");
  if ("action" in fields || "id" in fields) throw misuse("`action` and `id` are not fields of a command");
  let text: string;
  try {
    text = JSON.stringify({ action, id, ...fields });
  } catch (cause) {
    throw new HuahuoError("misuse", `${action}: a field holds what JSON cannot`, { cause });
  }
  if (text.length * 3 > MESSAGE_BYTES_MAX && new TextEncoder().encode(text).length > MESSAGE_BYTES_MAX) {
    throw new HuahuoError("too_large", `${action}: a message may have ${MESSAGE_BYTES_MAX} bytes`);
  }
  return text;
}
