"""The files that the service serves to a browser.

`scripts/web.sh` or the build of a wheel puts the console into `static/`. If it was not built, a page says how
to build it.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from msgspec.structs import replace

from huahuo.pages import mail_frame, setting_up
from huahuo.transport.server.site import CACHE_ASK_AGAIN, CACHE_FOR_EVER, Asset

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
    found = mail_frame.frames()
    found[setting_up.PATH] = setting_up.page()
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
