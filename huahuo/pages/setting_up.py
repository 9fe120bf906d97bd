"""The page behind the link that the first start prints: it makes the first administrator.

The code of the link stands behind `#`, which browsers send to nobody. The page sends it once, with the name
and the password that were chosen.
"""

import hashlib
from base64 import b64encode
from typing import Final

from huahuo.transport.server.site import Asset

PATH: Final = "/setup"

_SCRIPT: Final = """
const form = document.querySelector("form"), told = document.querySelector("output");
const code = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
const chinese = (navigator.language || "").toLowerCase().startsWith("zh");
const words = chinese
  ? { title: "创建管理员", name: "用户名", password: "密码（至少 8 个字符）", again: "再次输入密码",
      go: "创建", differ: "两次输入的密码不一致", failed: "操作失败：",
      done: "管理员已创建，请登录：", enter: "打开" }
  : { title: "Make the first administrator", name: "Name", password: "Password (8 characters or more)",
      again: "The password again", go: "Make", differ: "The passwords differ", failed: "It did not work: ",
      done: "The administrator was made. Sign in: ", enter: "open" };
document.documentElement.lang = chinese ? "zh" : "en";
document.title = words.title;
for (const one of document.querySelectorAll("[data-word]")) one.textContent = words[one.dataset.word];
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const [username, password, again] = [...form.querySelectorAll("input")].map((input) => input.value);
  if (password !== again) { told.textContent = words.differ; return; }
  const answer = await fetch("accounts", {
    method: "POST", headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ username: username.trim(), password, code }),
  }).catch(() => null);
  const body = answer ? await answer.json().catch(() => ({})) : {};
  if (!answer || !answer.ok) { told.textContent = words.failed + (body.detail || ""); return; }
  form.remove();
  told.textContent = words.done;
  const link = document.createElement("a");
  link.href = "./";
  link.textContent = words.enter;
  told.append(link);
});
"""
_STYLE: Final = """
html { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; }
main { width: min(360px, 100vw - 32px); }
form, label { display: grid; gap: 4px; }
form { gap: 12px; }
input, button { font: inherit; padding: 8px; }
"""
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>huahuo</title>
<style>{style}</style>
</head>
<body>
<main>
<h1 data-word="title"></h1>
<form>
<label><span data-word="name"></span><input autocomplete="username" required maxlength="64"></label>
<label><span data-word="password"></span>
<input type="password" autocomplete="new-password" required minlength="8" maxlength="256"></label>
<label><span data-word="again"></span>
<input type="password" autocomplete="new-password" required minlength="8" maxlength="256"></label>
<button data-word="go"></button>
</form>
<output role="status"></output>
</main>
<script>{script}</script>
</body>
</html>
"""


def page() -> Asset:
    """The page, whose policy allows its own script and style and nothing else."""
    policy = (
        f"default-src 'none'; script-src {_hash_of(_SCRIPT)}; style-src {_hash_of(_STYLE)}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    text = _PAGE.format(style=_STYLE, script=_SCRIPT)
    return Asset.of("text/html; charset=utf-8", text.encode(), csp=policy)


def _hash_of(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
