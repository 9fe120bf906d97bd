"""The files that the service shows to a browser.

The console is built into `static/` (`scripts/web.sh`). Where it was not, a small page without a build
step is served from `fallback/` instead.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable

from huahuo import mail_frame
from transport.http import CACHE_ASK_AGAIN, CACHE_FOR_EVER, Asset

BUILT = "static"
FALLBACK = "fallback"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".wasm": "application/wasm",
}
_HASHED = "/assets/"
"""Files there have a hash of what they hold in their names."""


def assets() -> dict[str, Asset]:
    """Path on the server -> file; `index.html` is `/`."""
    package = files("huahuo")
    built = package / BUILT
    found = mail_frame.frames()
    if not (built / "index.html").is_file():
        _collect(package / FALLBACK, "/", found)
    if built.is_dir():
        _collect(built, "/", found)
    return found


def _collect(folder: Traversable, path: str, found: dict[str, Asset]) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            _collect(entry, f"{path}{entry.name}/", found)
            continue
        suffix = entry.name[entry.name.rfind(".") :]
        if suffix in _TYPES:
            name = path if entry.name == "index.html" else path + entry.name
            cache = CACHE_FOR_EVER if path.startswith(_HASHED) else CACHE_ASK_AGAIN
            found[name] = Asset.of(_TYPES[suffix], entry.read_bytes(), cache)
