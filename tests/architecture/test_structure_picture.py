"""The picture of folders and imports in docs/architecture.md shows the code of today."""

import re
from pathlib import Path, PurePosixPath

import pytest

from scripts.structure_picture import (
    FLOORS,
    arrows,
    imports,
    links,
    reachable,
    reduced,
    sources_of_today,
    with_picture,
)

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
LINKS = links(sources_of_today())


def rooms() -> list[str]:
    """The folders of Python files below a floor, as `transport/session`."""
    folders = {f"{path.parts[0]}/{path.parts[1]}" for path in LINKS if len(path.parts) > 2}
    return sorted(folders)


def test_the_picture_is_what_the_script_prints() -> None:
    assert with_picture(PAGE) == PAGE, "run scripts/structure_picture.py"


@pytest.mark.parametrize("room", rooms())
def test_the_page_describes_every_room(room: str) -> None:
    floor, name = room.split("/")
    section = PAGE.partition(f"### `huahuo.{floor}`\n" if floor != "huahuo" else "### `huahuo`\n")[2]
    assert f"| `{name}` |" in section.partition("\n#")[0]


@pytest.mark.parametrize("floor", FLOORS)
def test_the_page_describes_no_room_that_is_not_there(floor: str) -> None:
    heading = f"### `huahuo.{floor}`\n" if floor != "huahuo" else "### `huahuo`\n"
    section = PAGE.partition(heading)[2].partition("\n#")[0]
    described = {f"{floor}/{name}" for name in re.findall(r"^\| `([a-z_]+)` \|", section, re.MULTILINE)}
    assert described - set(rooms()) == set()


@pytest.mark.parametrize("floor", FLOORS)
def test_fewer_arrows_lead_to_the_same_rooms(floor: str) -> None:
    inside, _outside = arrows(LINKS, floor)
    fewer = reduced(inside)
    assert {room: reachable(fewer, room) for room in inside} == {
        room: reachable(inside, room) for room in inside
    }


@pytest.mark.parametrize(
    "text",
    [
        "import huahuo.transport.hub",
        "from huahuo.transport import hub",
        "from huahuo.transport.hub import Hub",
        "def late():\n    from transport.hub import Hub",  # the layout before the move
    ],
)
def test_each_form_of_an_import_is_found(text: str) -> None:
    hub, other = PurePosixPath("transport/hub.py"), PurePosixPath("transport/other.py")
    assert list(imports(other, text, {hub: "", other: text})) == [hub]
