"""What users of mail are told, in English. See `zh`."""

from huahuo.mailcheck.zh import texts


def __getattr__(name: str) -> str:  # what is not in the file
    raise AttributeError(f"no text {name}")


globals().update(texts(1))
