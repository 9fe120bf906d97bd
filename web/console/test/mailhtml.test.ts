// @vitest-environment happy-dom
import { describe, expect, it } from "vitest";
import { harmless } from "../src/model/mailhtml";

function cleaned(html: string): { html: string; remote: boolean } {
  const inert = new DOMParser().parseFromString(html, "text/html");
  const { nodes, remote } = harmless(inert);
  const box = document.createElement("div");
  box.append(...nodes.map((node) => document.importNode(node, true)));
  return { html: box.innerHTML, remote };
}

describe("harmless", () => {
  it.each([
    "<script>x()</script>", "<iframe src=/></iframe>", "<object data=x></object>", "<embed src=x>", "<base href=//e>",
    "<meta http-equiv=refresh content='0;url=//e'>", "<form action=//e><button>go</button></form>", "<svg onload=x()></svg>",
    "<link rel=stylesheet href=//e>", "<math><mi></mi></math>",
  ])("takes out %s", (html) => expect(cleaned(html).html).toBe(""));
  it.each(["onerror", "onclick", "onload", "srcdoc", "formaction", "ping"])("takes out the attribute %s", (name) => {
    expect(cleaned(`<p ${name}="x()">text</p>`).html).toBe("<p>text</p>");
  });
  it.each(["javascript:x()", "JaVaScRiPt:x()", " javascript:x()", "data:text/html,x", "vbscript:x", "/here", "#"])(
    "makes text of a link to %j", (address) => expect(cleaned(`<a href="${address}">go</a>`).html).toBe("<a>go</a>"),
  );
  it("opens good links outside, without a way back", () => {
    const { html } = cleaned('<a href="https://e.example/x">go</a>');
    expect(html).toContain('target="_blank"');
    expect(html).toContain("noopener noreferrer");
  });
  it("keeps a mail's own styles and pictures", () => {
    const { html, remote } = cleaned('<p style="color:red">a</p><img src="data:image/png;base64,AA==">');
    expect(html).toContain("color");
    expect(html).toContain("data:image/png");
    expect(remote).toBe(false);
  });
  it.each([
    '<img src="https://e/x.png">', '<td background="https://e/x.png">x</td>', '<p style="background:url(https://e)">x</p>',
    '<img srcset="https://e 2x">', "<style>@import 'https://e'</style>",
  ])("notices that %s wants something from elsewhere", (html) => {
    expect(cleaned(`<table><tr>${html}</tr></table>${html}`).remote).toBe(true);
  });
});
