"""The empty page of the frame in which the console shows a mail's HTML, and the policies it is served with.

A mail is a stranger's document. The console writes it into this frame; what keeps it harmless is here:
no script runs (neither the sandbox nor `default-src` allows one), nothing is fetched, no form is sent,
and its own styles end at the frame's edge. `REMOTE` is for the reader who asks to see a mail's pictures.
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
    """Path -> page, once without anything from elsewhere and once with pictures."""
    return {
        PATH: Asset.of(_HTML, _PAGE, csp=_POLICY.format(images="data:")),
        REMOTE_PATH: Asset.of(_HTML, _PAGE, csp=_POLICY.format(images="data: https: http:")),
    }
