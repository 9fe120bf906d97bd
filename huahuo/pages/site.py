"""The pages that the service serves to a browser.

* The console: `scripts/web.sh` or the build of a wheel puts it into `static/`; else a page says how to
  build it.
* The frame for a mail's HTML, a stranger's document. Its policies make it harmless: no script runs
  (neither the sandbox nor `default-src` allows one), no resource is fetched, no form is sent, and its
  styles apply only inside the frame. `REMOTE` is used if the reader asks for a mail's pictures.
* The page behind the link of the first start, which makes the first administrator. The link's code stands
  behind `#`, which browsers send to nobody; the page sends it once, with the name and password that were
  chosen.
* A built copy of FireMail's front end that the user has, at `/`. None of it is part of this project. The
  policy names its inline script by its hash; `/env-config.js` (`classic_page.js`), which says where the
  service is, is always ours.
"""

import hashlib
import re
from base64 import b64encode
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from huahuo.transport.http.site import CACHE_ASK_AGAIN, CACHE_FOR_EVER, Asset

MAIL_FRAME_PATH = "/mail-frame"
REMOTE_FRAME_PATH = "/mail-frame/remote"

_MAIL_FRAME = b"""<!doctype html>
<html lang="und">
<head>
<meta charset="utf-8">
<meta http-equiv="x-dns-prefetch-control" content="off">
<title>mail</title>
<style>
html { color-scheme: light; background: #fff; color: #1d1b19; }
body { margin: 0; padding: 12px; font: 14px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; }
table { max-width: 100%; }
</style>
</head>
<body></body>
</html>
"""

_MAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src {images}; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox allow-same-origin allow-popups allow-popups-to-escape-sandbox"
)
_HTML = "text/html; charset=utf-8"


def mail_frames() -> dict[str, Asset]:
    """Path -> page: one without remote content, and one that allows pictures."""
    return {
        MAIL_FRAME_PATH: Asset.of(_HTML, _MAIL_FRAME, csp=_MAIL_POLICY.format(images="data:")),
        REMOTE_FRAME_PATH: Asset.of(_HTML, _MAIL_FRAME, csp=_MAIL_POLICY.format(images="data: https: http:")),
    }


SETTING_UP_PATH: Final = "/setup"

_SETTING_UP_SCRIPT: Final = """
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
_SETTING_UP_STYLE: Final = """
html { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; }
main { width: min(360px, 100vw - 32px); }
form, label { display: grid; gap: 4px; }
form { gap: 12px; }
input, button { font: inherit; padding: 8px; }
"""
_SETTING_UP_PAGE: Final = """<!doctype html>
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


def setting_up_page() -> Asset:
    """The page, whose policy allows its own script and style and nothing else."""
    policy = (
        f"default-src 'none'; script-src {_hash_of(_SETTING_UP_SCRIPT)}; "
        f"style-src {_hash_of(_SETTING_UP_STYLE)}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    text = _SETTING_UP_PAGE.format(style=_SETTING_UP_STYLE, script=_SETTING_UP_SCRIPT)
    return Asset.of("text/html; charset=utf-8", text.encode(), csp=policy)


def _hash_of(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


BUILT = "static"

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".wasm": "application/wasm",
}
_NOT_BUILT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>huahuo</title>
<h1>huahuo is running</h1>
<p>The console was not built here. Install Node.js 20.19 or newer with npm, run <code>make web</code> in the
source tree and restart the service, or install the wheel, which has the console inside.</p>
<p>Clients can connect without it. In a terminal: <code>huahuo tail URL STREAM</code>.</p>
</html>
"""
_HASHED = "/assets/"
"""Files there have a hash of their content in their names."""
_CLIENT = "/client/"
"""A page of any origin may import the browser client; it holds nothing of a user."""


CONSOLE: Final = "/console/"
"""Where the console is if another page is at `/`."""


def assets(console: str = "/") -> dict[str, Asset]:
    """Path on the server -> file; the console is at `console`."""
    package = files(__package__)
    built = package / BUILT
    found = mail_frames()
    found[SETTING_UP_PATH] = setting_up_page()
    if not (built / "index.html").is_file():
        found["/"] = Asset.of(TYPES[".html"], _NOT_BUILT.encode(), CACHE_ASK_AGAIN)
    if built.is_dir():
        _collect(built, "/", found)
    page, below = found.pop("/"), "./" if console == "/" else "../"
    page = Asset.of(page.content_type, page.body.replace(b'="./', f'="{below}'.encode()), page.cache)
    found[console] = found[console.rstrip("/") or "/"] = replace(page, below=below)
    return found


def _collect(folder: Traversable, path: str, found: dict[str, Asset]) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            _collect(entry, f"{path}{entry.name}/", found)
            continue
        suffix = entry.name[entry.name.rfind(".") :]
        if suffix in TYPES:
            name = path if entry.name == "index.html" else path + entry.name
            cache = CACHE_FOR_EVER if path.startswith(_HASHED) else CACHE_ASK_AGAIN
            any_origin = path.startswith(_CLIENT)
            found[name] = Asset.of(TYPES[suffix], entry.read_bytes(), cache, any_origin=any_origin)


_ENV_PATH: Final = "/env-config.js"
_CLASSIC_SCRIPT: Final = Path(__file__).with_name("classic_page.js")
_FILES_MAX: Final = 2_000
_BYTES_MAX: Final = 128 << 20
_INLINE: Final = re.compile(rb"<script(?![^>]*\bsrc\s*=)[^>]*>(.*?)</script\s*>", re.DOTALL | re.IGNORECASE)
_CLASSIC_POLICY: Final = (
    "default-src 'self'; script-src 'self'{hashes}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob: https:; media-src 'self' blob:; font-src 'self' data:; "
    "connect-src 'self' ws: wss:; frame-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_MORE_TYPES: Final = {
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".map": "application/json",
    ".png": "image/png",
    ".ttf": "font/ttf",
    ".txt": "text/plain; charset=utf-8",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}


def classic_site(folder: Path) -> tuple[dict[str, Asset], Asset]:
    """Path on the server -> file, and the page that stands for every path of its own (`/emails/7`, …).

    Raises:
        ValueError: the folder holds no built front end, or it is too large. The text begins with the setting.
    """
    try:
        page = (folder / "index.html").read_bytes()
    except OSError:
        raise ValueError(
            f"classic_ui: {folder} has no index.html: name the folder that its build made"
        ) from None
    policy = classic_policy_of(page)
    index = Asset.of(TYPES[".html"], page, csp=policy)
    found = {"/": index, "/index.html": index}
    size = 0
    for file in sorted(folder.rglob("*")):
        kind = (TYPES | _MORE_TYPES).get(file.suffix.lower())
        if kind is None or not file.is_file() or file == folder / "index.html":
            continue
        body = file.read_bytes()
        size += len(body)
        if len(found) > _FILES_MAX or size > _BYTES_MAX:
            raise ValueError(f"classic_ui: {folder} holds more than a front end has")
        path = "/" + file.relative_to(folder).as_posix()
        cache = CACHE_FOR_EVER if path.startswith("/assets/") else CACHE_ASK_AGAIN
        found[path] = Asset.of(kind, body, cache, csp=policy)
    found[_ENV_PATH] = Asset.of(TYPES[".js"], _CLASSIC_SCRIPT.read_bytes(), csp=policy)
    return found, index


def classic_policy_of(page: bytes) -> str:
    """The security policy of a page: it runs its own inline scripts and no others."""
    scripts = (found[1] for found in _INLINE.finditer(page))
    hashes = (b64encode(hashlib.sha256(script).digest()).decode() for script in scripts)
    return _CLASSIC_POLICY.format(hashes="".join(f" 'sha256-{one}'" for one in hashes))
