"""What only the front end of FireMail is told. It is spoken to in Chinese, as it was written."""

import json
from importlib.resources import files


def __getattr__(name: str) -> str:  # what is not in the file
    raise AttributeError(f"no text {name}")


globals().update(json.loads(files(__package__).joinpath("texts.json").read_text("utf-8")))
