/** The newest events as they came, for the panel that shows them. Pure. */

import type { Fact } from "./mailboxes";

export interface Entry {
  /** Grows by one with each entry of this page's life. */
  readonly number: number;
  readonly stream: string;
  readonly seq: number;
  readonly fact: Fact;
  /** What the connection did, not an event of the stream. */
  readonly note: boolean;
}

export const ENTRIES_MAX = 5000;

export class Journal {
  entries: Entry[] = [];
  total = 0;
  private readonly texts = new WeakMap<Entry, string>();

  constructor(private readonly max = ENTRIES_MAX) {}

  add(stream: string, first: number, facts: readonly Fact[]): void {
    facts.forEach((fact, i) => this.push(stream, first + i, fact, false));
  }

  /** Say between the events what the connection did. */
  mark(stream: string, seq: number, fact: Fact): void {
    this.push(stream, seq, fact, true);
  }

  clear(): void {
    this.entries = [];
  }

  /** The newest entries in which every word of `query` occurs, oldest first. */
  find(query: string): Entry[] {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    const newest = this.entries.slice(-this.max);
    if (words.length === 0) return newest;
    return newest.filter((entry) => {
      const text = this.text(entry);
      return words.every((word) => text.includes(word));
    });
  }

  private push(stream: string, seq: number, fact: Fact, note: boolean): void {
    this.entries.push({ number: ++this.total, stream, seq, fact, note });
    // cut rarely: each cut moves everything
    if (this.entries.length > 2 * this.max) this.entries = this.entries.slice(-this.max);
  }

  private text(entry: Entry): string {
    let text = this.texts.get(entry);
    if (text === undefined) {
      text = `${entry.stream} ${entry.seq} ${JSON.stringify(entry.fact)}`.toLowerCase();
      this.texts.set(entry, text);
    }
    return text;
  }
}

/** As one would paste it elsewhere: one JSON object a line. */
export const asLines = (entries: readonly Entry[]): string =>
  entries.filter(({ note }) => !note)
    .map(({ stream, seq, fact }) => JSON.stringify({ ...fact, stream, seq })).join("\n");
