/** Which lines of a long list are worth drawing. Pure. */

export interface Viewport {
  /** First line drawn, and the one behind the last. */
  readonly first: number;
  readonly end: number;
}

export function visible(count: number, linePx: number, topPx: number, heightPx: number, beyond: number): Viewport {
  // a list that has become shorter is scrolled to its end by the browser, a frame later
  const top = Math.max(0, Math.min(topPx, count * linePx - heightPx));
  return {
    first: Math.max(0, Math.floor(top / linePx) - beyond),
    end: Math.min(count, Math.ceil((top + heightPx) / linePx) + beyond),
  };
}

/** Where to scroll so that line `index` is in sight; `topPx` if it is. */
export function reveal(index: number, linePx: number, topPx: number, heightPx: number): number {
  const top = index * linePx;
  if (top < topPx) return top;
  if (top + linePx > topPx + heightPx) return top + linePx - heightPx;
  return topPx;
}

/**
 * Whether a list goes on following its newest line. Only scrolling up ends that: when the browser tells of
 * a jump to the end, further lines may have come, and the end is elsewhere again.
 */
export function follows(before: boolean, atEnd: boolean, topPx: number, topBeforePx: number): boolean {
  return atEnd || (before && topPx >= topBeforePx);
}

/** Where a key takes the cursor of a list; null for keys that mean something else. */
export function moved(key: string, at: number, count: number, page: number): number | null {
  const steps: Readonly<Record<string, number>> = {
    ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: count - 1,
  };
  const to = steps[key];
  return to === undefined || count === 0 ? null : Math.min(count - 1, Math.max(0, to));
}
