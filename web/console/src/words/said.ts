/** What the server says, in the reader's language: in Chinese, in Chinese with English in brackets, or in the language asked for. Pure. */

import type { Language } from "../model/format";
import { CATALOGUE } from "./catalogue";

const CHINESE = /[\u4e00-\u9fff]/;
const BOTH = /^([^(]*[\u4e00-\u9fff][^(]*) \(([^()]*)\)(.*)$/s;
const GAP = "{}";

const EXACT = new Map(CATALOGUE.filter(([chinese]) => !chinese.includes(GAP)));
const FILLED = CATALOGUE.filter(([chinese]) => chinese.includes(GAP)).map(([chinese, english]) => {
  const parts = chinese.split(GAP).map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return [new RegExp(`^${parts.join("(.*)")}$`, "s"), english] as const;
});

export function said(text: string, language: Language): string {
  const both = BOTH.exec(text);
  if (both) return (language === "zh" ? both[1] : capital(both[2] ?? "")) + (both[3] ?? "");
  if (language === "zh") return text;
  return capital(CHINESE.test(text) ? (EXACT.get(text) ?? filled(text)) : text);
}

function filled(text: string): string {
  for (const [chinese, english] of FILLED) {
    const found = chinese.exec(text);
    if (found) return found.slice(1).reduce((told, value) => told.replace(GAP, () => value), english);
  }
  return text;
}

const capital = (text: string): string => text.replace(/^[a-z]/, (letter) => letter.toUpperCase());
