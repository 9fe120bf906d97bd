import { describe, expect, it } from "vitest";
import { en } from "../src/words/en";
import { zh } from "../src/words/zh";

type Node = string | ((...args: never[]) => string) | { [key: string]: Node };
const CHINESE = /[\u4e00-\u9fff]/;

function texts(node: Node, path = ""): [string, string][] {
  if (typeof node === "string") return [[path, node]];
  if (typeof node === "function") return [[path, (node as (...args: unknown[]) => string)(...Array<unknown>(node.length || 1).fill(2))]];
  return Object.entries(node).flatMap(([key, value]) => texts(value, `${path}.${key}`));
}

describe("words", () => {
  it("are the same in both languages", () => {
    expect(texts(zh as unknown as Node).map(([path]) => path)).toEqual(texts(en as unknown as Node).map(([path]) => path));
  });
  it("hold no Chinese in English but the name of the other language", () => {
    const found = texts(en as unknown as Node).filter(([path, text]) => path !== ".language" && CHINESE.test(text));
    expect(found).toEqual([]);
  });
  it("are translated", () => {
    const same = new Set([".language", ".form.tls", ".form.clientId"]);
    const untranslated = texts(zh as unknown as Node).filter(([path, text]) => !same.has(path) && !CHINESE.test(text));
    // numbers and separators only
    expect(untranslated.filter(([, text]) => /[A-Za-z]{2,}/.test(text))).toEqual([]);
  });
});
