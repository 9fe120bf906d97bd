"""Puts the sources of the site together: guides, README as first page, a reference of what `huahuo` exports.

    python scripts/docs_site.py TARGET      called by scripts/docs.sh

Links between the pages are rewritten to where the pages are on the site. What leads to other files of the
repository becomes text, since the site does not have them.
"""

import posixpath
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "bench/RESULTS.md": "measurements.md",
    "web/client/README.md": "browser-client.md",
}
"""Pages outside of `docs`, by where they are on the site."""
REFERENCE = {
    "entities": "Entities, commands, effects",
    "service": "The service, its door and its clients",
}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)


def main(target: Path) -> None:
    """Write the sources of the site into the new directory `target`."""
    pages = {
        f"docs/{file.relative_to(ROOT / 'docs')}": file for file in sorted((ROOT / "docs").rglob("*.md"))
    }
    pages |= {name: ROOT / name for name in ELSEWHERE}
    places = {name: ELSEWHERE.get(name, name.removeprefix("docs/")) for name in pages}
    for name, file in pages.items():
        _write(target / places[name], _rewritten(file.read_text(encoding="utf-8"), name, places))
    shutil.copytree(ROOT / "docs" / "images", target / "images")
    for page, text in _reference():
        _write(target / "reference" / page, text)


def _rewritten(text: str, name: str, places: dict[str, str]) -> str:
    """The text of a page with links that hold on the site. Fenced code stays as it is."""

    def link(found: re.Match[str]) -> str:
        mark, shown, address = found.groups()
        if "://" in address or address.startswith(("#", "mailto:")):
            return found.group(0)
        path, _, anchor = address.partition("#")
        there = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
        place = there.removeprefix("docs/") if there.startswith("docs/images/") else places.get(there)
        if place is None:
            return str(shown)
        here = posixpath.dirname(places[name])
        return f"{mark}[{shown}]({posixpath.relpath(place, here or '.')}{'#' * bool(anchor)}{anchor})"

    parts = _FENCE.split(text)
    return "".join(part if part.startswith("```") else _LINK.sub(link, part) for part in parts)


def _reference() -> Iterator[tuple[str, str]]:
    """A page for each group of what `huahuo` exports, from the docstrings."""
    import huahuo

    paths = {}
    for name in sorted(huahuo.__all__):
        thing = getattr(huahuo, name)
        home = getattr(thing, "__module__", "huahuo")
        paths[name] = f"{home}.{name}" if home.startswith("huahuo.") else f"huahuo.{name}"
    for page, title in REFERENCE.items():
        own = {name: path for name, path in paths.items() if _group(path) == page}
        listed = "\n\n".join(f"::: {path}" for path in own.values())
        yield f"{page}.md", f"# {title}\n\n`from huahuo import {', '.join(own)}`\n\n{listed}\n"


def _group(path: str) -> str:
    return "entities" if path.startswith("huahuo.actors.") else "service"


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
