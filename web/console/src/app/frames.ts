/** Changes come faster than screens: what follows from them is done once a frame. */

/** Call `work` in the next animation frame, however often it is asked for; at once where nobody looks. */
export function onceAFrame(work: () => void): () => void {
  let asked = false;
  const run = (): void => {
    if (!asked) return;
    asked = false;
    work();
  };
  return () => {
    if (asked) return;
    asked = true;
    // a hidden page gets no frames
    if (document.visibilityState === "hidden") setTimeout(run, 250);
    else requestAnimationFrame(run);
  };
}

/** At most once in `ms`, the last call counts. */
export function atMostEvery(ms: number, work: () => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let last = -Infinity;
  return () => {
    if (timer !== undefined) return;
    timer = setTimeout(() => {
      timer = undefined;
      last = performance.now();
      work();
    }, Math.max(0, last + ms - performance.now()));
  };
}
