/**
 * A mail's HTML made harmless before it is put into its frame. The frame's policy and its sandbox are
 * what keep a mail from running or fetching anything; this takes out what would be pointless there, and
 * makes links open outside. Works on an inert document: nothing in it runs or loads.
 */

const DROPPED = [
  "script", "noscript", "template", "iframe", "frame", "frameset", "object", "embed", "applet", "base", "meta", "link",
  "form", "input", "button", "select", "textarea", "video", "audio", "source", "track", "portal", "svg", "math", "title",
].join(",");
const LINKS = new Set(["http:", "https:", "mailto:", "tel:"]);
const ADDRESSES = new Set(["href", "action", "formaction", "xlink:href", "ping", "background", "poster", "data", "srcdoc"]);

export interface Harmless {
  /** To be adopted by the frame's document: what was in `<head>` (styles), then the body. */
  readonly nodes: readonly Node[];
  /** The mail wants pictures or styles from elsewhere. */
  readonly remote: boolean;
}

export function harmless(inert: Document): Harmless {
  for (const element of inert.querySelectorAll(DROPPED)) element.remove();
  let remote = false;
  for (const element of inert.querySelectorAll("*")) {
    for (const { name, value } of [...element.attributes]) {
      if (name.startsWith("on") || (ADDRESSES.has(name) && name !== "href" && name !== "background")) element.removeAttribute(name);
      else if (isRemote(name, value)) remote = true;
    }
    if (element.tagName === "A" || element.tagName === "AREA") openOutside(element);
    else element.removeAttribute("href");
    if (element.tagName === "STYLE" && /url\s*\(|@import/i.test(element.textContent ?? "")) remote = true;
  }
  const nodes = [...inert.querySelectorAll("head > style"), ...inert.body.childNodes];
  return { nodes, remote };
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
