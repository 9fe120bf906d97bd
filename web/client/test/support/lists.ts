/** Live lists in their simplest form: written from docs/live-lists.md alone. */

type Message = Record<string, unknown> & { action: string };
type Frame = Record<string, unknown>;

interface From { log: string; position: number; of: string; bound?: string }

const bytes = (text: string) => new TextEncoder().encode(text);
const byBytes = (one: string, other: string) => Buffer.compare(bytes(one), bytes(other));

/** Tables by the name of their list. Ascending. Keeps for ever what changed. */
export class ModelLists {
  position = 0;
  readonly denied = new Set<string>();
  /** By stream, a state after an event. */
  readonly states = new Map<string, { seq: number; state: Frame }>();
  private readonly rows = new Map<string, Map<string, { value: unknown; at: number }>>();

  /** Commit changes of one list; undefined drops. */
  set(list: string, changes: Record<string, unknown>): number {
    this.position += 1;
    const rows = this.table(list);
    for (const [key, value] of Object.entries(changes)) rows.set(key, { value, at: this.position });
    return this.position;
  }

  table(list: string) {
    let found = this.rows.get(list);
    if (!found) this.rows.set(list, (found = new Map()));
    return found;
  }

  window(list: string, limit: number): [string, unknown][] {
    return [...this.table(list)].filter(([, { value }]) => value !== undefined)
      .sort(([one], [other]) => byBytes(one, other)).slice(0, limit).map(([key, { value }]) => [key, value]);
  }
}

interface View { list: string; limit: number; place: From | null; unacked: number[] }

/** The views of one connection. */
export class ModelViews {
  private readonly views = new Map<number, View>();
  private room = { view: 0, position: 0, data: null as unknown };
  private readonly told = new Map<number, { stream: string; seq: number }>();

  constructor(private readonly lists: ModelLists, private readonly log: () => string) {}

  get open(): string[] {
    return [...this.views.values()].map(({ list }) => list);
  }

  follow({ id, list, limit = 100, from, ...more }: Message & { list?: string; limit?: number; from?: From & { seq?: number }; state?: string; presence?: string; data?: unknown }): Frame[] {
    if (more.presence) return this.enter(more.presence, id, more.data);
    if (more.state) return this.followState(more.state, id, from);
    const name = list as string;
    if (this.lists.denied.has(name)) return [{ type: "following", id, outcome: "denied" }];
    if (name === "unknown") return [{ type: "error", id, code: "not_found", message: "no such list" }];
    const resumes = from?.log === this.log() && from.of === name && from.position <= this.lists.position;
    const number = [...`${name} ${limit}`].reduce((sum, c) => (sum * 31 + c.charCodeAt(0)) % 100_003, 7);
    this.views.set(number, { list: name, limit, place: resumes ? from : null, unacked: [] });
    return [{
      type: "following", id, view: number, outcome: resumes ? "resumed" : from ? "reset" : "fresh", log: this.log(),
      position: this.lists.position, of: name, limit, order: "ascending",
    }, this.rows(number)];
  }

  private enter(stream: string, id: unknown, data: unknown): Frame[] {
    const view = 700_000 + stream.length;
    this.room = { view, position: 2, data };
    return [
      { type: "following", id, view, outcome: "fresh", log: this.log() },
      { type: "rows", view, position: 2, reset: true, drop: [], put: [["s-1", { data }], ["s-2", { data: "other" }]] },
    ];
  }

  present({ data }: Message): Frame[] {
    const { view, position } = this.room;
    this.room.position += 1;
    return [{ type: "rows", view, position: position + 1, drop: ["s-2"], put: [["s-1", { data }]] }];
  }

  private followState(stream: string, id: unknown, from?: { log: string; seq?: number }): Frame[] {
    const found = this.lists.states.get(stream);
    if (!found) return [{ type: "following", id, outcome: "denied" }];
    const view = 500_000 + stream.length;
    this.told.set(view, { stream, seq: found.seq });
    const has = from?.log === this.log() && from.seq === found.seq;
    const following = { type: "following", id, view, outcome: has ? "resumed" : from ? "reset" : "fresh", log: this.log() };
    return has ? [following] : [following, { type: "state", view, ...found }];
  }

  unfollow({ id, view }: Message): Frame[] {
    this.told.delete(view as number);
    this.views.delete(view as number);
    return [{ type: "unfollowed", id, view }];
  }

  ack(views: Record<string, number>): void {
    for (const [number, position] of Object.entries(views)) {
      const view = this.views.get(Number(number));
      if (view) view.unacked = view.unacked.filter((one) => one > position);
    }
  }

  end(list: string): Frame[] {
    const ended = [...this.views].filter(([, view]) => view.list === list).map(([number]) => number);
    for (const number of ended) this.views.delete(number);
    return ended.map((view) => ({ type: "unfollowed", view, reason: "forbidden" }));
  }

  step(): Frame | null {
    for (const [number, { list, place, unacked }] of this.views) {
      const changed = [...this.lists.table(list).values()].some(({ at }) => at > (place?.position ?? 0));
      if (changed && unacked.length < 4) return this.rows(number);
    }
    for (const [view, told] of this.told) {
      const { seq, state } = this.lists.states.get(told.stream) as { seq: number; state: Frame };
      if (told.seq < seq) {
        told.seq = seq;
        return { type: "state", view, seq, patch: { n: state["n"], gone: null } };
      }
    }
    return null;
  }

  reached(position: number): Frame {
    const but = [...this.views].filter(([, { unacked }]) => unacked.length >= 4).map(([number]) => number);
    return { type: "reached", position, ...(but.length > 0 && { but }) };
  }

  private rows(number: number): Frame {
    const view = this.views.get(number) as View;
    const { list, limit, place } = view;
    const window = this.lists.window(list, limit);
    const last = window.length === limit ? window.at(-1)?.[0] : undefined;
    const { position } = this.lists;
    const inside = (key: string) => place?.bound === undefined || byBytes(key, place.bound) <= 0;
    const changed = [...this.lists.table(list)].filter(([, { at }]) => at > (place?.position ?? 0)).map(([key]) => key);
    const put = place ? window.filter(([key]) => changed.includes(key) || !inside(key)) : window;
    const drop = place ? changed.filter((key) => inside(key) && !window.some(([one]) => one === key)) : [];
    view.place = { log: this.log(), of: list, position, ...(last !== undefined && { bound: last }) };
    view.unacked.push(position);
    return {
      type: "rows", view: number, position, put, drop, ...(!place && { reset: true }),
      ...(last !== undefined && { bound: last }),
    };
  }
}
