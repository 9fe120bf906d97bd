/** Numbers, sizes and times as a reader of `language` writes them. Pure. */

export type Language = "en" | "zh";

const locale = (language: Language): string => (language === "zh" ? "zh-CN" : "en-GB");

const clocks = new Map<Language, Intl.DateTimeFormat>();
const counts = new Map<Language, Intl.NumberFormat>();

function made<T>(known: Map<Language, T>, language: Language, make: () => T): T {
  let one = known.get(language);
  if (!one) known.set(language, (one = make()));
  return one;
}

/** A moment, short: month, day, hour, minute. What is no time is shown as it came. */
export function when(text: string, language: Language): string {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return text;
  return made(clocks, language, () => new Intl.DateTimeFormat(locale(language), {
    month: language === "zh" ? "numeric" : "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23",
  })).format(date);
}

/** A moment to the millisecond, as logs write it. */
export function clock(text: string): string {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return text;
  const two = (n: number): string => String(n).padStart(2, "0");
  const ms = String(date.getMilliseconds()).padStart(3, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${ms}`;
}

export const number = (value: number, language: Language): string =>
  made(counts, language, () => new Intl.NumberFormat(locale(language))).format(value);

export function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** What a `datetime-local` field holds, as the wire wants it; undefined where it is empty. */
export function asUtc(local: string): string | undefined {
  const date = new Date(local);
  return local === "" || Number.isNaN(date.getTime()) ? undefined : date.toISOString();
}
