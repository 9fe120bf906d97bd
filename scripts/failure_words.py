"""Writes web/console/src/words/failures.ts: what the console says of each kind of failure.

python scripts/failure_words.py        after a change of huahuo/mailcheck/servers/failures.json
"""

import json
from pathlib import Path

from huahuo.mailcheck.servers.faults import KINDS

PAGE = Path(__file__).resolve().parents[1] / "web/console/src/words/failures.ts"
_HEAD = """/** Every kind of failure of a check. Written by scripts/failure_words.py: do not edit. */

export interface Failure {
  readonly code: string;
  readonly class: "auth" | "network" | "tls" | "limit" | "provider_down" | "protocol" | "config";
  /** How the service words it; behind it may come ": " and what the mail server said. */
  readonly message: string;
  readonly zh: { readonly what: string; readonly advice: string };
  readonly en: { readonly what: string; readonly advice: string };
}

export const FAILURES: readonly Failure[] = [
"""


def written() -> str:
    """The file."""
    lines = [
        json.dumps(
            {
                "code": code,
                "class": kind.error_class,
                "message": kind.message,
                "zh": {"what": kind.chinese, "advice": kind.advice_chinese},
                "en": {"what": kind.english, "advice": kind.advice_english},
            },
            ensure_ascii=False,
        )
        for code, kind in KINDS.items()
    ]
    return _HEAD + "".join(f"  {line},\n" for line in lines) + "];\n"


if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
