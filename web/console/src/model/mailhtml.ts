/**
 * A mail's HTML made harmless before it is put into its frame. The frame's policy and its sandbox are
 * what keep a mail from running or fetching anything; DOMPurify takes out what would be pointless there
 * or mean another thing when it is parsed again. What is left to us: links open outside, and the reader
 * is told that a mail wants something from elsewhere.
 */

import DOMPurify, { type Config, type WindowLike } from "dompurify";

const CONTROLS = ["button", "select", "textarea"];
const RULES: Config = {
  USE_PROFILES: { html: true },
  FORBID_TAGS: [...CONTROLS, "form", "input", "template", "video", "audio", "source", "track", "dialog"],
  ADD_FORBID_CONTENTS: CONTROLS,
  ALLOW_DATA_ATTR: false,
  WHOLE_DOCUMENT: true, // a mail's styles are in its head
};
const LINKS = new Set(["http:", "https:", "mailto:", "tel:"]);

export interface Harmless {
  /** To be adopted by the frame's document: what was in `<head>` (styles), then the body. */
  readonly nodes: readonly Node[];
  /** The mail wants pictures or styles from elsewhere. */
  readonly remote: boolean;
}

/** `home` is the frame's window: what its parser makes is under the frame's policy, not the console's. */
export function harmless(html: string, home: WindowLike): Harmless {
  const purifier = DOMPurify(home);
  purifier.addHook("beforeSanitizeElements", (node) => {
    if (node.nodeName === "STYLE") bareStyles(node);
  });
  // A tree, so that nothing is parsed a second time.
  const root = purifier.sanitize(html, { ...RULES, RETURN_DOM: true }) as HTMLElement;
  let remote = false;
  for (const element of root.querySelectorAll("[style]")) element.setAttribute("style", ruleOf(element.getAttribute("style") ?? ""));
  for (const style of root.querySelectorAll("style")) style.textContent = sheetOf(style.textContent ?? "");
  for (const element of root.querySelectorAll("[background]")) element.removeAttribute("background");
  for (const element of root.querySelectorAll("*")) {
    remote ||= [...element.attributes].some(({ name, value }) => isRemote(name, value));
    if (element.tagName === "A" || element.tagName === "AREA") openOutside(element);
  }
  const nodes = [...root.querySelectorAll("head > style"), ...(root.querySelector("body")?.childNodes ?? [])];
  return { nodes, remote };
}

/** Outlook puts its styles into a comment, which CSS ignores; DOMPurify would drop them for its `<`. */
function bareStyles(style: Node): void {
  style.textContent = (style.textContent ?? "").replace(/<!--|-->/g, "");
}

function isRemote(name: string, value: string): boolean {
  return (name === "src" || name === "srcset") && !/^\s*(data|cid):/i.test(value);
}

/**
 * Styles load nothing: Chromium sends the address of the page with pictures that a style loads, whatever the
 * policy says. The browser's own parser resolves escapes, and drops `@import`. What it leaves undecided
 * (custom properties, and values with `var()`, which have no value yet) is dropped as well.
 */
function sheetOf(css: string): string {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  bare(sheet);
  return [...sheet.cssRules].map((rule) => rule.cssText.replaceAll("<", "\\3c ")).join("\n"); // it ends no element
}

function ruleOf(declarations: string): string {
  const { style } = document.createElement("i");
  style.cssText = declarations;
  bareStyle(style);
  return style.cssText;
}

function bare(within: CSSStyleSheet | CSSGroupingRule | CSSStyleRule): void {
  for (let i = within.cssRules.length - 1; i >= 0; i--) {
    const rule: unknown = within.cssRules[i];
    const { style } = rule as { style?: CSSStyleDeclaration };
    if (style) bareStyle(style);
    if (rule instanceof CSSGroupingRule || rule instanceof CSSStyleRule) bare(rule);
    else if (!style) within.deleteRule(i);
  }
}

const LOADS = /(?:url|image|image-set|src)\((?!\s*["']?data:)/i;

function bareStyle(style: CSSStyleDeclaration): void {
  for (const name of [...style]) {
    const value = style.getPropertyValue(name);
    if (value === "" || name.startsWith("--") || LOADS.test(value)) style.removeProperty(name);
  }
}

function openOutside(link: Element): void {
  const address = link.getAttribute("href");
  if (address === null) return;
  if (LINKS.has(schemeOf(address))) {
    link.setAttribute("target", "_blank");
    link.setAttribute("rel", "noopener noreferrer nofollow");
    link.setAttribute("title", address);
  } else {
    link.removeAttribute("href");
  }
}

function schemeOf(address: string): string {
  try {
    return new URL(address).protocol;
  } catch {
    return "";
  }
}
