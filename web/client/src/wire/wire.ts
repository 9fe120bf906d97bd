/** Reads the server's messages and validates them on arrival. Pure. */

import { HuahuoError } from "../model/errors.js";
import { KINDS, type Known, type Moving, MOVING } from "./kinds.js";

/** A reply, or a message that this version does not know. */
export type Other = { type: string; id?: unknown } & Record<string, unknown>;

/** Fields that are positions wherever they occur. */
const POSITIONS = ["seq", "to", "after", "first", "head", "part"] as const;

/**
 * Parse one message.
 *
 * @throws HuahuoError `protocol_violation`: it cannot be parsed, or a field has the wrong type
 */
export function parse(text: string): Known | Other {
  try {
    const message = JSON.parse(text) as Other;
    const isPlace = (name: string) => message[name] === undefined || Number.isSafeInteger(message[name]);
    const { type, events = [], stream = "" } = message;
    if (typeof type + typeof stream === "stringstring" && Array.isArray(events) && POSITIONS.every(isPlace)) {
      return message;
    }
  } catch {
    // neither JSON nor an object
  }
  throw new HuahuoError("protocol_violation", "the server sent a message that cannot be read");
}

export const isKnown = (message: Known | Other): message is Known => KINDS.has(message.type);

export const isMoving = (message: Known | Other): message is Moving => MOVING.has(message.type);
