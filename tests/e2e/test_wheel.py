"""The wheel, made from the source archive, in an empty environment: one import name, a console, a client."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="the build backend is not installed")

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("actors", "eventstore", "transport", "replay", "mailcheck")
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


def test_an_environment_gets_one_new_name_and_a_program(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    site = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    )
    before = {path.name for path in site.iterdir()}
    run(python, "-m", "pip", "install", "-q", "--no-deps", wheel, cwd=tmp_path)
    new = {path.name for path in site.iterdir()} - before
    assert {name for name in new if not name.endswith(".dist-info")} == {"huahuo"}
    assert (tmp_path / "env" / "bin" / "huahuo").is_file()
    assert "ImportError" not in run(python, "-c", "import huahuo, huahuo.errors", cwd=tmp_path)
