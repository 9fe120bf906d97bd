"""Makes the compressed messages that the browser client's tests read, with the server's own compressor.

Run `python scripts/zstd_samples.py`; it writes `web/client/test/support/frames.json`.
"""

import json
import sys
from base64 import b64encode
from pathlib import Path

import zstandard

from huahuo.dictionaries.zstd_dictionaries import SHIPPED
from huahuo.eventstore.zstd_frames import Compressor, Dictionary

LEVEL = 3
ROOT = Path(__file__).resolve().parent.parent


def events(count: int) -> bytes:
    """A run of progress events, as the server frames it."""
    rows = [
        {
            "type": "check_progress",
            "timestamp": f"2026-11-24T10:31:{n:02}.114Z",
            "email_id": 17,
            "progress": n,
            "message": f"正在处理 {n}/{count}",
            "check_id": 9,
        }
        for n in range(count)
    ]
    message = {"type": "events", "stream": "user/42", "seq": 1042, "events": rows}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def samples(dictionary: Dictionary) -> dict[str, bytes]:
    """Frames by what is special about them; the content of the readable ones is `events(n)`."""
    shared, plain = Compressor(dictionary, LEVEL), Compressor(None, LEVEL)
    known = zstandard.ZstdCompressionDict(dictionary.data)
    naming = zstandard.ZstdCompressor(dict_data=known)
    sizeless = zstandard.ZstdCompressor(dict_data=known, write_content_size=False)
    return {
        "one": shared.compress(events(1)),
        "named": naming.compress(events(1)),
        "sixteen": shared.compress(events(16)),
        "many": shared.compress(events(60) * 500),
        "plain": plain.compress(events(1)),
        "sizeless": sizeless.compress(events(1)),
        "bomb": shared.compress(bytes((17 << 20) + 1)),
        "largest": shared.compress(b" " * (17 << 20)),
        "not_utf8": shared.compress(b'{"type":"\xff\xff\xff\xff"}'),
    }


if __name__ == "__main__":
    folder = ROOT / "huahuo" / "dictionaries"
    number = SHIPPED[-1]
    dictionary = Dictionary.of((folder / f"{number}.zdict").read_bytes())
    made = {
        "dictionary": {"id": dictionary.id, "bytes": b64encode(dictionary.data).decode()},
        "texts": {"one": events(1).decode(), "sixteen": events(16).decode()},
        "frames": {name: b64encode(frame).decode() for name, frame in samples(dictionary).items()},
    }
    path = ROOT / "web" / "client" / "test" / "support" / "frames.json"
    path.write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n")
    sys.stdout.write(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes\n")
