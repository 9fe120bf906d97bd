"""The name of the index of mails among the projections, and of its file in the data directory."""

from typing import Final

NAME: Final = "mail-search"
FILE: Final = "mail-search.db"
