/**
 * Assembles messages that come in parts: objects merge by key, lists append, and of any other value the later
 * one counts. Pure. It mirrors `transport/protocol/kinds.py`.
 */

import { HuahuoError } from "../model/errors.js";

type Json = Record<string, unknown>;

/** Bound of all parts of one message together, in UTF-16 units. */
const ASSEMBLED_MAX = 256 * 1024 * 1024;

export interface PartOf {
  readonly part?: number;
  readonly more?: boolean;
}

/** Whether a message is not one of several parts. */
export const isWhole = ({ part = 1, more = false }: PartOf): boolean => part === 1 && !more;

export class Assembly {
  whole: Json = {};
  private number = 0;
  private size = 0;

  constructor(private readonly max = ASSEMBLED_MAX) {}

  /**
   * Add a part.
   *
   * @throws HuahuoError `protocol_violation`: it does not follow the last part, or all are too large
   */
  add(part: Json, number: number, size: number): void {
    if (number === 1) {
      this.whole = {};
      this.number = this.size = 0;
    }
    this.size += size;
    if (number !== this.number + 1 || this.size > this.max) {
      throw new HuahuoError("protocol_violation", "a part of a message that does not fit");
    }
    this.number = number;
    merge(this.whole, part);
  }
}

/** Merge `part` into `whole`, which may share objects with it afterwards. */
export function merge(whole: Json, part: Json): void {
  for (const [name, value] of Object.entries(part)) {
    const known = Object.hasOwn(whole, name) ? whole[name] : undefined;
    if (Array.isArray(known) && Array.isArray(value)) {
      for (const one of value as unknown[]) known.push(one); // a spread would overflow the stack
    } else if (isObject(known) && isObject(value)) merge(known, value);
    else Object.defineProperty(whole, name, { value, writable: true, enumerable: true, configurable: true });
  }
}

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);
