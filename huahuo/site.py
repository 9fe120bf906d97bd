"""The files that the service shows to a browser: what the package ships under `static/`."""

from importlib.resources import files
from importlib.resources.abc import Traversable

from transport.http import Asset

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}


def assets() -> dict[str, Asset]:
    """Path on the server -> file; `index.html` is `/`."""
    found: dict[str, Asset] = {}
    _collect(files("huahuo") / "static", "/", found)
    return found


def _collect(folder: Traversable, path: str, found: dict[str, Asset]) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            _collect(entry, f"{path}{entry.name}/", found)
            continue
        suffix = entry.name[entry.name.rfind(".") :]
        if suffix in _TYPES:
            name = path if entry.name == "index.html" else path + entry.name
            found[name] = Asset.of(_TYPES[suffix], entry.read_bytes())
