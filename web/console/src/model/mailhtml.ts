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
  for (const element of root.querySelectorAll("*")) {
    remote ||= [...element.attributes].some(({ name, value }) => isRemote(name, value));
    if (element.tagName === "A" || element.tagName === "AREA") openOutside(element);
    if (element.tagName === "STYLE" && /url\s*\(|@import/i.test(element.textContent ?? "")) remote = true;
  }
  const nodes = [...root.querySelectorAll("head > style"), ...(root.querySelector("body")?.childNodes ?? [])];
  return { nodes, remote };
}

/** Outlook puts its styles into a comment, which CSS ignores; DOMPurify would drop them for its `<`. */
function bareStyles(style: Node): void {
  style.textContent = (style.textContent ?? "").replace(/<!--|-->/g, "");
}

function isRemote(name: string, value: string): boolean {
  if (name === "src" || name === "background" || name === "srcset") return !/^\s*(data|cid):/i.test(value);
  return name === "style" && /url\s*\(/i.test(value);
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
