/** How far something is, as an event says it: its `percent` or `progress`, from 0 to 100. Null: it says nothing of that. */
export function progressOf(data: unknown): number | null {
  if (typeof data !== "object" || data === null) return null;
  const { percent, progress } = data as Record<string, unknown>;
  const told = typeof percent === "number" ? percent : progress;
  return typeof told === "number" && told >= 0 && told <= 100 ? told : null;
}
