"""The result of one check of `huahuo doctor`."""

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """`level`: `ok`, `warning` (works with limits) or `error` (will not work)."""

    level: str
    about: str
    text: str
