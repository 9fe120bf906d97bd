"""Text for a terminal: in its reader's language, and made safe where it is from strangers. Pure."""

from collections.abc import Mapping

from huahuo.actors.plugins.words import Language, language_of


def language_in(environ: Mapping[str, str]) -> Language:
    """The language of the terminal's user, by its locale; English where that is another or none."""
    locale = next((environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environ.get(name)), "")
    return language_of([locale.partition(".")[0].partition("@")[0].replace("_", "-")], "en")


def printable(text: str) -> str:
    """`text` with characters that could move the cursor, colour or reorder written as JSON escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")  # names of files may have halves of characters
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def counted(count: int, noun: str) -> str:
    """`1 event`, `2 events`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
