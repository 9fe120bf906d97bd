"""The wheel, made from the source archive, in an empty environment: one import name, a console, a client."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from huahuo.transport import native
from tests.support.drivers.http import ask
from tests.support.drivers.snippets import block
from tests.support.proofs import WHOLE
from tests.support.sends import NEEDS

ROOT = Path(__file__).resolve().parents[2]


FLOORS = ("actors", "eventstore", "transport", "replay", "mailcheck")


VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


PACKAGES_MAX = 30


BYTES_MAX = 90_000_000
"""What `pip install huahuo` may bring, besides the bytecode that pip makes of it."""


pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def run(*words: str | Path, cwd: Path) -> str:
    """The output of a program that must succeed."""
    done = subprocess.run([*map(str, words)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source archive, as an index would."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    archive = next(folder.glob("*.tar.gz"))
    run("tar", "xzf", archive, cwd=folder)
    tree = next(path for path in folder.iterdir() if path.is_dir())
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=tree)
    return next(folder.glob("*.whl"))


def test_the_only_import_name_is_huahuo(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"huahuo"}


def test_every_floor_the_console_and_the_browser_client_are_inside(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"huahuo/{floor}/__init__.py" for floor in FLOORS} <= names
    assert {"huahuo/pages/static/index.html", "huahuo/pages/static/client/huahuo-client.js"} <= names
    assert "huahuo/pages/classic_page.js" in names, "--classic-ui reads it"
    assert "huahuo/eventstore/fulltext/unicode-license.txt" in names, "the licence of a table asks for it"


def test_where_a_compiler_is_the_wheel_holds_the_part_in_c(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        built = {name for name in archive.namelist() if name.endswith(".so")}
    if native.found() is None:
        pytest.skip(NEEDS)
    assert built == {"huahuo/transport/native/_sends.abi3.so"}
    assert "-cp312-abi3-linux_" in wheel.name


def test_without_the_part_in_c_one_wheel_is_for_every_platform(tmp_path: Path) -> None:
    environ = os.environ | {"HUAHUO_NATIVE": "0"}
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=environ)
    (made,) = tmp_path.glob("*.whl")
    assert made.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(made) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".so")]


@pytest.mark.timeout(300)
def test_an_empty_environment_serves_the_console_and_runs_the_readme(wheel: Path, tmp_path: Path) -> None:
    """In one test, because a new environment takes longer than all that is asked of it."""
    venv.create(tmp_path / "env", with_pip=True)
    python, huahuo = tmp_path / "env" / "bin" / "python", tmp_path / "env" / "bin" / "huahuo"
    work = tmp_path / "work"
    work.mkdir()
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", where, cwd=work).strip())
    before = {path.name for path in site.iterdir()}
    run(python, "-m", "pip", "install", "-q", "--no-deps", wheel, cwd=work)
    new = {path.name for path in site.iterdir()} - before
    assert {name for name in new if not name.endswith(".dist-info")} == {"huahuo"}
    run(python, "-m", "pip", "install", "-q", wheel, cwd=work)
    freeze = run(python, "-m", "pip", "freeze", cwd=work).splitlines()
    assert len(freeze) <= PACKAGES_MAX, freeze
    brought = [path for path in site.rglob("*") if path.suffix != ".pyc" and "/pip" not in str(path)]
    assert sum(path.stat().st_size for path in brought) <= BYTES_MAX
    refused = subprocess.run(
        [huahuo, "serve", "--data", "data", "--port", "0"],
        cwd=work,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert "pip install 'huahuo[mail]'" in refused.stderr
    assert "Traceback" not in refused.stderr
    (work / "own.py").write_text("from huahuo import Huahuo\n\napp = Huahuo(plugins=[])\n", encoding="utf-8")
    with listening(huahuo, work, "--app", "own:app", "--data", "own-data") as url:
        assert get(url, "/healthz", "text/plain") == "ok\n"
    adding = [str(huahuo), "user", "add", "carol", "--data", "own-data", "--password-stdin"]
    refused = subprocess.run(
        adding, cwd=work, capture_output=True, text=True, check=False, input="a-good-password\n"
    )
    assert "pip install 'huahuo[passwords]'" in refused.stderr
    run(python, "-m", "pip", "install", "-q", f"{wheel}[mail,passwords]", cwd=work)

    assert run(huahuo, "--version", cwd=work) == f"huahuo {VERSION}\n"
    with listening(huahuo, work) as url:
        assert 'id="app"' in get(url, "/", "text/html")
        assert "IndexedDbCursors" in get(url, "/client/huahuo-client.js", "text/javascript")
        assert get(url, "/healthz", "text/plain") == "ok\n"
        token: list[str | Path] = [huahuo, "token", "--data", "data", "--username", "alice"]
        reader = run(*token, "--user-id", "42", "--groups", "ops", cwd=work)
        (work / "token.txt").write_text(reader, encoding="utf-8")
        admin = run(*token, "--user-id", "1", "--admin", cwd=work).strip()
        publish = f"url, admin_token = {url!r}, {admin!r}\n{block('web/client/README.md', 'publish')}"
        run(python, "-c", in_a_program(publish), cwd=work)
        reading = [python, "-u", "-c", block("README.md", "readme", url=url)]
        with subprocess.Popen([*map(str, reading)], cwd=work, stdout=subprocess.PIPE, text=True) as reader_:
            assert reader_.stdout is not None
            assert reader_.stdout.readline().startswith("1 deploy_started")
            reader_.kill()


@contextlib.contextmanager
def listening(huahuo: Path, cwd: Path, *more: str) -> Iterator[str]:
    """The address of `huahuo serve` in an empty directory."""
    command = [str(huahuo), "serve", "--data", "data", "--port", "0", *more]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            yield service.stdout.readline().removeprefix("listening on ").strip()
        finally:
            service.terminate()


def get(url: str, path: str, content_type: str) -> str:
    """The text of a file of this type."""
    answer = ask(url + path)
    assert answer.headers["Content-Type"].startswith(content_type)
    return answer.text


def in_a_program(text: str) -> str:
    """A block that uses `await` outside of functions, as a program."""
    return f"import asyncio\n\nasync def main():\n{textwrap.indent(text, '    ')}\n\nasyncio.run(main())"


def test_without_node_a_build_says_what_is_missing(tmp_path: Path) -> None:
    """From a copy of what is committed, on a PATH without npm, where PyPI cannot bring Node either."""
    tree = tmp_path / "tree"
    run("git", "clone", "-q", ROOT, tree, cwd=tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "dirname", "cmp", "find", "cat"):
        found = shutil.which(name)
        assert found
        (programs / name).symlink_to(found)
    environ = {"PATH": str(programs), "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, env=environ)
    assert done.returncode != 0
    assert "building the console needs Node 20.19 or newer with npm" in done.stderr + done.stdout


def test_the_sources_of_the_site_have_every_page_and_every_exported_name(tmp_path: Path) -> None:
    target = tmp_path / "sources"
    subprocess.run([sys.executable, "scripts/docs_site.py", str(target)], cwd=ROOT, check=True, timeout=60)
    pages = {str(file.relative_to(target)) for file in target.rglob("*.md")}
    assert pages >= {str(file.relative_to(ROOT / "docs")) for file in (ROOT / "docs").rglob("*.md")}
    import huahuo

    reference = "".join(file.read_text() for file in (target / "reference").glob("*.md"))
    assert [name for name in huahuo.__all__ if f".{name}\n" not in reference] == []
    assert "](docs/" not in (target / "index.md").read_text(), (
        "a link of the README that the site does not have"
    )


if WHOLE:

    @pytest.mark.timeout(600)
    def test_the_site_is_built_and_no_link_leads_nowhere() -> None:
        subprocess.run(["scripts/docs.sh"], cwd=ROOT, check=True, timeout=600)
        assert (ROOT / "build" / "docs" / "reference" / "entities.html").is_file()

    @pytest.mark.timeout(1800)  # two environments and the demo's packages are installed
    def test_a_release_is_checked_and_has_a_bill_of_materials(tmp_path: Path) -> None:
        clone = tmp_path / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True, timeout=60)
        subprocess.run(["scripts/release.sh"], cwd=clone, check=True, timeout=1800)
        (bill,) = (clone / "dist").glob("*.cdx.json")
        named = {part["name"] for part in json.loads(bill.read_text())["components"]}
        assert {"pykka", "websockets", "zstandard", "msgspec"} <= named
        assert "pip" not in named
