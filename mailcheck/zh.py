"""What users of mail are told, as the code says it. See `huahuo.actors.plugins.words`.

The texts are in `texts.json`, in Chinese and in English; those of details of errors, which the code says in
English, are at its end.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

_ALL: Final[Mapping[str, tuple[str, str]]] = json.loads(
    files(__package__).joinpath("texts.json").read_text("utf-8")
)


def texts(language: int) -> dict[str, str]:
    """All texts of a language by their names."""
    return {name: said[language] for name, said in _ALL.items()}


def __getattr__(name: str) -> str:  # what is not in the file
    raise AttributeError(f"no text {name}")


LISTED = {"import_result": ("failed_details", "reason")}
globals().update(texts(0))
