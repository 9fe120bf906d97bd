/** Events a second and how long they took to get here, for the chart. Pure. */

const SAMPLES_MAX = 256;

interface Second {
  readonly at: number;
  count: number;
  latenciesMs: number[];
}

export interface Series {
  /** Seconds since 1970, one a column. */
  readonly at: number[];
  readonly count: number[];
  readonly medianMs: (number | null)[];
  readonly maxMs: (number | null)[];
}

export class Rates {
  private seconds: Second[] = [];

  constructor(private readonly spanS = 60) {}

  /** `latencyMs` is null for events that waited for us, not we for them. */
  add(nowMs: number, count: number, latencyMs: number | null): void {
    const second = this.second(Math.floor(nowMs / 1000));
    second.count += count;
    if (latencyMs !== null && second.latenciesMs.length < SAMPLES_MAX) {
      second.latenciesMs.push(Math.max(0, latencyMs)); // clocks differ a little
    }
  }

  /** The seconds that are over, one column each, also those in which nothing came. */
  series(nowMs: number): Series {
    const end = Math.floor(nowMs / 1000);
    this.seconds = this.seconds.filter(({ at }) => at >= end - this.spanS);
    const known = new Map(this.seconds.map((second) => [second.at, second]));
    const series: Series = { at: [], count: [], medianMs: [], maxMs: [] };
    for (let at = end - this.spanS; at < end; at += 1) {
      const second = known.get(at);
      const sorted = second ? [...second.latenciesMs].sort((a, b) => a - b) : [];
      series.at.push(at);
      series.count.push(second?.count ?? 0);
      series.medianMs.push(sorted[sorted.length >> 1] ?? null);
      series.maxMs.push(sorted.at(-1) ?? null);
    }
    return series;
  }

  private second(at: number): Second {
    let last = this.seconds.at(-1);
    if (last?.at !== at) this.seconds.push((last = { at, count: 0, latenciesMs: [] }));
    return last;
  }
}
