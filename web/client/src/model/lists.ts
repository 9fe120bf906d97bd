/** Live lists: their rows, and what an application says of them. */

/** A row. `part` where the list has several. */
export type ListRow = readonly [key: string, value: unknown, part?: string];
/** The place of a row: its key, or its key and its part. */
export type Bound = string | readonly [key: string, part: string];
export type Order = "ascending" | "descending";

/** Where a reader of a list stands. `bound`: its last row, if it has as many as its limit. */
export interface ListPlace {
  readonly log: string;
  readonly of: string;
  readonly position: number;
  readonly bound?: Bound;
}

/** The lists of an application, their fields and rows. Add your own by declaration merging, as with events. */
export interface Lists {}

/** A name of a list that `Lists` does not have. */
export type UndeclaredList<N extends string> = N extends keyof Lists ? never : N;
export type FieldsOf<N> = N extends keyof Lists ? Lists[N] extends { fields: infer F } ? F : object : object;
export type RowOf<N> = N extends keyof Lists ? Lists[N] extends { row: infer R } ? R : unknown : unknown;
