"""The empty page of the frame in which the console shows a mail's HTML, and its security policies.

A mail is a stranger's document, which the console writes into this frame. The policies make it harmless: no
script runs (neither the sandbox nor `default-src` allows one), no resource is fetched, no form is sent, and
its styles apply only inside the frame. `REMOTE` is used if the reader asks for a mail's pictures.
"""

from huahuo.transport.server.site import Asset

PATH = "/mail-frame"
REMOTE_PATH = "/mail-frame/remote"

_PAGE = b"""<!doctype html>
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

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src {images}; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox allow-same-origin allow-popups allow-popups-to-escape-sandbox"
)
_HTML = "text/html; charset=utf-8"


def frames() -> dict[str, Asset]:
    """Path -> page: one without remote content, and one that allows pictures."""
    return {
        PATH: Asset.of(_HTML, _PAGE, csp=_POLICY.format(images="data:")),
        REMOTE_PATH: Asset.of(_HTML, _PAGE, csp=_POLICY.format(images="data: https: http:")),
    }
