"""Draws the folders and imports of docs/architecture.md from the code.

Run `python scripts/structure_picture.py`; a test fails when the page is not what this prints.
`python scripts/structure_picture.py COMMIT` prints the floors at a commit, in the old layout or the new one.
`BEFORE` is what it printed for d2c9f6d, the last commit before the rooms; a shallow clone does not hold it.
"""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("huahuo", "transport", "mailcheck", "actors", "replay", "eventstore")
BEGIN, END = "<!-- structure -->\n", "<!-- /structure -->"
COLUMNS = ("floor", "files", "folders", "most files in one folder", "imports between its files")
SIZES = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"
BEFORE = """\
| floor | files | folders | most files in one folder | imports between its files |
|---|---|---|---|---|
| huahuo | 56 | 4 | 33 | 158 |
| transport | 52 | 1 | 51 | 142 |
| mailcheck | 36 | 1 | 35 | 97 |
| actors | 21 | 1 | 20 | 68 |
| replay | 16 | 1 | 15 | 18 |
| eventstore | 42 | 1 | 41 | 142 |

```mermaid
graph TD
  huahuo --> mailcheck
  huahuo --> transport
  transport --> actors
  mailcheck --> actors
  actors --> replay
  replay --> eventstore
```
"""

type Sources = Mapping[PurePosixPath, str]
"""Paths from the repository's root, as `transport/session/calls.py`, with the text of each file."""
type Links = Mapping[PurePosixPath, Collection[PurePosixPath]]
"""Each of these files, with the ones among them that it imports."""
type Arrows = dict[str, set[str]]


def sources_of_today() -> Sources:
    """The Python files of the floors as they lie in the work tree."""
    paths = (path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py")))
    return {PurePosixPath(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def sources_at(commit: str) -> Sources:
    """The Python files of the floors at a commit."""

    def git(*words: str) -> str:
        command = ["git", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603
        return done.stdout

    listed = map(PurePosixPath, git("ls-tree", "-r", "--name-only", commit, *FLOORS).splitlines())
    return {path: git("show", f"{commit}:{path}") for path in listed if path.suffix == ".py"}


@cache
def named(text: str) -> Sequence[str]:
    """The modules and names that a file imports, wherever in the file it does so, as `a.b.c`."""
    names: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@cache
def files_of(name: str) -> Sequence[PurePosixPath]:
    """The files that an import of `a.b.c` may mean: c is a module or a name in one."""
    words = name.split(".")
    if words[0] == "huahuo" and words[1:2] and words[1] in FLOORS:
        words = words[1:]  # the link below huahuo leads to the floor's folder
    whole, outer = "/".join(words), "/".join(words[:-1])
    names = (f"{whole}.py", f"{whole}/__init__.py", f"{outer}.py", f"{outer}/__init__.py")
    return [PurePosixPath(one) for one in names]


def links(known: Sources) -> Links:
    """Who imports whom: once, as each picture asks for it many times."""
    return {path: set(imports(path, text, known)) for path, text in known.items()}


def imports(path: PurePosixPath, text: str, known: Sources) -> Iterator[PurePosixPath]:
    """The files of the floors that a file imports."""
    for name in named(text):
        target = next((one for one in files_of(name) if one in known), None)
        if target is not None and target != path:
            yield target


def sizes(known: Links) -> str:
    """One row for each floor."""
    rows = []
    for floor in FLOORS:
        files = [path for path in known if path.parts[0] == floor]
        folders = Counter(path.parent for path in files if path.name != "__init__.py")
        inside = sum(target.parts[0] == floor for path in files for target in known[path])
        rows.append(f"| {floor} | {len(files)} | {len(folders)} | {max(folders.values())} | {inside} |\n")
    return SIZES + "".join(rows)


def floors(known: Links) -> str:
    """Which floor imports which, in Mermaid."""
    graph: Arrows = {floor: set() for floor in FLOORS}
    for path, targets in known.items():
        graph[path.parts[0]] |= {target.parts[0] for target in targets} - {path.parts[0]}
    lines = [f"  {floor} --> {target}\n" for floor in FLOORS for target in sorted(reduced(graph)[floor])]
    return f"```mermaid\ngraph TD\n{''.join(lines)}```\n"


def room(path: PurePosixPath) -> str:
    """The room of a file, or its own name where it lies at the top of its floor."""
    return path.parts[1].removesuffix(".py")


def arrows(known: Links, floor: str) -> tuple[Arrows, Arrows]:
    """Which rooms of a floor each of its rooms imports, and which rooms of other floors."""
    inside: Arrows = {}
    outside: Arrows = {}
    for path, targets in known.items():
        if path.parts[0] != floor or path.parts[1] == "__init__.py":
            continue
        here = room(path)
        own, other = inside.setdefault(here, set()), outside.setdefault(here, set())
        for target in targets:
            if target.parts[0] != floor:
                other.add("/".join((target.parts[0], room(target))).removesuffix("/__init__"))
            elif room(target) not in (here, "__init__"):
                own.add(room(target))
    return inside, outside


def reachable(graph: Arrows, start: str) -> set[str]:
    """Everything that `start` imports, directly or not."""
    seen: set[str] = set()
    ahead = [start]
    while ahead:
        for target in graph[ahead.pop()] - seen:
            seen.add(target)
            ahead.append(target)
    return seen


def reduced(graph: Arrows) -> Arrows:
    """Without the arrows that a longer way of arrows implies; the graph has no circle."""
    return {
        node: targets - {far for near in targets for far in reachable(graph, near)}
        for node, targets in graph.items()
    }


def diagram(known: Links, floor: str) -> str:
    """The rooms of one floor in Mermaid; files at the top of the floor have round ends."""
    inside, _outside = arrows(known, floor)
    files = Counter(room(path) for path in known if path.parts[0] == floor and path.name != "__init__.py")
    lines = []
    for node in sorted(inside):
        folder = any(path.parts[:2] == (floor, node) for path in known)
        lines.append(f'  {node}["{node}: {files[node]}"]\n' if folder else f'  {node}(["{node}.py"])\n')
    for node, targets in sorted(reduced(inside).items()):
        lines += [f"  {node} --> {target}\n" for target in sorted(targets)]
    return f"### {floor}\n\n```mermaid\ngraph TD\n{''.join(lines)}```\n\n"


def table(known: Links, floor: str) -> str:
    """What each room of a floor imports from the floors below."""
    _inside, outside = arrows(known, floor)
    rows = [
        f"| {node} | {', '.join(sorted(targets)) or '–'} |\n"
        for node, targets in sorted(outside.items())
        if targets
    ]
    if not rows:
        return "It imports no other floor.\n\n"
    return "| room or file | imports from other floors |\n|---|---|\n" + "".join(rows) + "\n"


def picture(known: Links) -> str:
    """Everything between the markers."""
    head = f"### Before the move\n\n{BEFORE}\n### After the move\n\n{sizes(known)}\n{floors(known)}\n"
    return head + "".join(diagram(known, floor) + table(known, floor) for floor in FLOORS)


def with_picture(page: str) -> str:
    """`page` with the picture of today."""
    head, rest = page.split(BEGIN)
    _old, tail = rest.split(END)
    return head + BEGIN + picture(links(sources_of_today())) + END + tail


if __name__ == "__main__":
    if sys.argv[1:]:
        then = links(sources_at(sys.argv[1]))
        sys.stdout.write(f"{sizes(then)}\n{floors(then)}")
    else:
        target = ROOT / "docs" / "architecture.md"
        target.write_text(with_picture(target.read_text(encoding="utf-8")), encoding="utf-8")
