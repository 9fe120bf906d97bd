"""A built copy of FireMail's front end that the user has, served at `/`. None of it is part of this project.

Its page has an inline script, which the policy names by its hash, and inline styles. Where it finds the
service is told by `/env-config.js` (`classic_page.js`), which is always ours, whatever the folder holds.
"""

import hashlib
import re
from base64 import b64encode
from pathlib import Path
from typing import Final

from huahuo.pages.site import TYPES
from huahuo.transport.server.site import CACHE_ASK_AGAIN, CACHE_FOR_EVER, Asset

_ENV_PATH: Final = "/env-config.js"
_SCRIPT: Final = Path(__file__).with_name("classic_page.js")
_FILES_MAX: Final = 2_000
_BYTES_MAX: Final = 128 << 20
_INLINE: Final = re.compile(rb"<script(?![^>]*\bsrc\s*=)[^>]*>(.*?)</script\s*>", re.DOTALL | re.IGNORECASE)
_POLICY: Final = (
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


def classic(folder: Path) -> tuple[dict[str, Asset], Asset]:
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
    policy = policy_of(page)
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
    found[_ENV_PATH] = Asset.of(TYPES[".js"], _SCRIPT.read_bytes(), csp=policy)
    return found, index


def policy_of(page: bytes) -> str:
    """The security policy of a page: it runs its own inline scripts and no others."""
    scripts = (found[1] for found in _INLINE.finditer(page))
    hashes = (b64encode(hashlib.sha256(script).digest()).decode() for script in scripts)
    return _POLICY.format(hashes="".join(f" 'sha256-{one}'" for one in hashes))
