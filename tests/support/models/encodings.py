"""The forms in which a secret could be written somewhere: what a search for it must look for. Pure."""

import base64
import binascii
import html
import json
import quopri
import urllib.parse
from collections.abc import Iterator


def encodings_of(secret: str) -> dict[str, bytes]:
    """The secret in more than 50 encodings, by their names."""
    return {name: form for name, form in _forms(secret) if len(form) >= len(secret) // 2}


def found_in(data: bytes, secret: str) -> list[str]:
    """The encodings in which `data` holds the secret."""
    return [name for name, form in encodings_of(secret).items() if form in data]


def _forms(secret: str) -> Iterator[tuple[str, bytes]]:
    raw = secret.encode()
    yield "plain", raw
    yield "upper case", secret.upper().encode()
    yield "lower case", secret.lower().encode()
    yield "reversed", raw[::-1]
    for codec in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-7", "cp037", "cp500"):
        yield codec, secret.encode(codec)
    for offset in range(3):  # what surrounds it shifts it
        for name, encode in (("base64", base64.b64encode), ("base64 for URLs", base64.urlsafe_b64encode)):
            yield f"{name} at {offset}", _inner(encode(b"\0" * offset + raw), offset, 3, 4)
        yield (
            f"base64 of UTF-16 at {offset}",
            _inner(base64.b64encode(b"\0" * offset + secret.encode("utf-16-le")), offset, 3, 4),
        )
        twice = base64.b64encode(base64.b64encode(raw))
        yield f"base64 twice at {offset}", twice[: -4 or None]
    for offset in range(5):
        yield f"base32 at {offset}", _inner(base64.b32encode(b"\0" * offset + raw), offset, 5, 8)
    for offset in range(4):
        shifted = b"\0" * offset + raw + b"\0" * (-(offset + len(raw)) % 4)
        yield f"base85 at {offset}", _inner(base64.b85encode(shifted), offset, 4, 5)
        yield f"ascii85 at {offset}", _inner(base64.a85encode(shifted, foldspaces=False), offset, 4, 5)
    yield "hex", raw.hex().encode()
    yield "hex, upper case", raw.hex().upper().encode()
    yield "hex with spaces", raw.hex(" ").encode()
    yield "hex with colons", raw.hex(":").encode()
    yield "hex of UTF-16", secret.encode("utf-16-le").hex().encode()
    yield "percent", "".join(f"%{byte:02X}" for byte in raw).encode()
    yield "percent, lower case", "".join(f"%{byte:02x}" for byte in raw).encode()
    yield "percent where needed", urllib.parse.quote(secret, safe="").encode()
    yield "form", urllib.parse.quote_plus(secret).encode()
    yield "JSON", json.dumps(secret)[1:-1].encode()
    yield "JSON escapes", "".join(f"\\u{ord(char):04x}" for char in secret).encode()
    yield "JSON escapes, upper case", "".join(f"\\u{ord(char):04X}" for char in secret).encode()
    yield "Python bytes", "".join(f"\\x{byte:02x}" for byte in raw).encode()
    yield "octal", "".join(f"\\{byte:03o}" for byte in raw).encode()
    yield "HTML", html.escape(secret).encode()
    yield "HTML numbers", "".join(f"&#{ord(char)};" for char in secret).encode()
    yield "HTML hex numbers", "".join(f"&#x{ord(char):x};" for char in secret).encode()
    yield "quoted printable", quopri.encodestring(raw).strip()
    yield "quoted printable, all", "".join(f"={byte:02X}" for byte in raw).encode()
    yield "uuencode", binascii.b2a_uu(raw[:45]).strip()[1:-2]
    yield "decimal list", ",".join(str(byte) for byte in raw).encode()
    yield "decimal list with spaces", ", ".join(str(byte) for byte in raw).encode()
    yield "bits", "".join(f"{byte:08b}" for byte in raw).encode()
    yield "rot13", secret.translate(_ROT13).encode()
    yield "with spaces", " ".join(secret).encode()
    yield "with zeros", b"\0".join(bytes((byte,)) for byte in raw)
    yield "SQL quotes", secret.replace("'", "''").encode()
    yield "shell quotes", secret.replace("'", "'\\''").encode()
    yield "backslashes", secret.replace("\\", "\\\\").encode()


def _inner(text: bytes, offset: int, of: int, into: int) -> bytes:
    """The groups that depend on the secret alone: the first may share bytes with what is before it."""
    text = text.rstrip(b"=")
    first = into if offset else 0
    return text[first : len(text) - len(text) % into - into or None] if len(text) > 2 * into else text


_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_ROT13 = str.maketrans(
    _LETTERS + _LETTERS.upper(),
    _LETTERS[13:] + _LETTERS[:13] + _LETTERS[13:].upper() + _LETTERS[:13].upper(),
)
