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

_MAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src {images}; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox allow-same-origin allow-popups allow-popups-to-escape-sandbox"
)
_HTML = "text/html; charset=utf-8"


def mail_frames() -> dict[str, Asset]:
    """Path -> page: one without remote content, and one that allows pictures."""
    page = _page("mail_frame")
    return {
        MAIL_FRAME_PATH: Asset.of(_HTML, page, csp=_MAIL_POLICY.format(images="data:")),
        REMOTE_FRAME_PATH: Asset.of(_HTML, page, csp=_MAIL_POLICY.format(images="data: https: http:")),
    }


SETTING_UP_PATH: Final = "/setup"


def setting_up_page() -> Asset:
    """The page, whose policy allows its own script and style and nothing else."""
    page = _page("setup")
    policy = (
        f"default-src 'none'; script-src{_hashes(page, 'script')}; style-src{_hashes(page, 'style')}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Asset.of(_HTML, page, csp=policy)


def _page(name: str) -> bytes:
    """A page that stands next to this module."""
    return Path(__file__).with_name(f"{name}.html").read_bytes()


def _hashes(page: bytes, tag: str) -> str:
    """What a policy says of the inline scripts, or styles, of a page: their hashes, each behind a blank."""
    inline = re.compile(
        rb"<%b(?![^>]*\bsrc\s*=)[^>]*>(.*?)</%b\s*>" % (tag.encode(), tag.encode()), re.DOTALL | re.IGNORECASE
    )
    digests = (hashlib.sha256(found[1]).digest() for found in inline.finditer(page))
    return "".join(f" 'sha256-{b64encode(one).decode()}'" for one in digests)


BUILT = "static"

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".wasm": "application/wasm",
}
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
        found["/"] = Asset.of(TYPES[".html"], _page("not_built"), CACHE_ASK_AGAIN)
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
    return _CLASSIC_POLICY.format(hashes=_hashes(page, "script"))
