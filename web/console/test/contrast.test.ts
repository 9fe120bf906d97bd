/** WCAG AA: 4.5 between text and its ground, 3 for what marks a control; read from the style sheet itself. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

const css = readFileSync(new URL("../src/style/tokens.css", import.meta.url), "utf8");
const colours = new Map([...css.matchAll(/(--[\w-]+): light-dark\((#\w{6}), (#\w{6})\)/g)].map(([, name, light, dark]) => [name, [light, dark]]));

function luminance(hex: string): number {
  const parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * parts[0]! + 0.7152 * parts[1]! + 0.0722 * parts[2]!;
}

function contrast(one: string, other: string): number {
  const [a, b] = [luminance(one), luminance(other)].sort((x, y) => y - x) as [number, number];
  return (a + 0.05) / (b + 0.05);
}

const GROUNDS = ["--bg", "--surface", "--sunken", "--hover", "--accent-soft"];
const PAIRS: [string, string, number][] = [
  ...["--ink", "--dim"].flatMap((text) => GROUNDS.map((ground): [string, string, number] => [text, ground, 4.5])),
  ...["ok", "warn", "bad", "busy"].flatMap((name): [string, string, number][] =>
    [`--${name}-soft`, "--surface", "--bg"].map((ground) => [`--${name}`, ground, 4.5])),
  ["--busy", "--hover", 4.5], ["--busy", "--accent-soft", 4.5],
  ["--on-accent", "--accent", 4.5], ["--on-accent", "--accent-strong", 4.5], ["--accent-strong", "--accent-soft", 4.5],
  ["--accent", "--surface", 3], ["--accent", "--accent-soft", 3], ["--line-strong", "--surface", 3], ["--busy", "--busy-soft", 3],
];

describe.each([["light", 0], ["dark", 1]] as const)("%s", (_, theme) => {
  it.each(PAIRS)("%s on %s has a contrast of at least %d", (text, ground, least) => {
    expect(contrast(colours.get(text)![theme]!, colours.get(ground)![theme]!)).toBeGreaterThanOrEqual(least);
  });
});
