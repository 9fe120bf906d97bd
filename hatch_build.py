"""Build hook: the floors go below `huahuo` in a wheel; browser parts and the part in C are built into it.

In the repository `huahuo/actors` and its like are links to the folders at the top. Archives hold no links,
and hatchling visits a folder that has two names once, so both archives are told here where the floors go. An
editable install uses the links and needs no Node.

The part in C (`transport/native`) is optional: if it cannot be built, or if HUAHUO_NATIVE=0, the wheel is
one for every platform, and the same is done in Python.
"""

import os
import runpy
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FLOORS = ("actors", "eventstore", "transport", "replay", "mailcheck")
NATIVE = "transport/native"
BUILT = ("huahuo/pages/static/index.html", "huahuo/pages/static/client/huahuo-client.js")


class BrowserParts(BuildHookInterface):  # type: ignore[type-arg]
    """Runs before hatchling collects files."""

    _kept: tempfile.TemporaryDirectory[str] | None = None
    """Where the part in C is until it is in the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called once for each archive. Raises RuntimeError if the browser parts cannot be built."""
        root = Path(self.root)
        if version == "editable":
            self._native(root / NATIVE)
            return
        below = "huahuo/" if self.target_name == "wheel" else ""
        for path in _sources(root):
            build_data["force_include"][str(path)] = f"{below}{path.relative_to(root)}"
        if self.target_name == "wheel":
            self._kept = tempfile.TemporaryDirectory()
            built = self._native(Path(self._kept.name))
            if built is not None:
                build_data["force_include"][str(built)] = f"huahuo/{NATIVE}/{built.name}"
                build_data["pure_python"] = False
                platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
                build_data["tag"] = f"cp312-abi3-{platform}"
        unpacked = (root / "PKG-INFO").is_file()  # a source archive holds what was built for it
        if unpacked and all((root / path).is_file() for path in BUILT):
            return
        done = subprocess.run(
            ["/bin/sh", "scripts/web.sh"], cwd=root, stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode or not all((root / path).is_file() for path in BUILT):
            raise RuntimeError(f"the browser parts were not built:\n{done.stderr.strip()}")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called after hatchling has made an archive."""
        del version, build_data, artifact_path
        if self._kept is not None:
            self._kept.cleanup()

    def _native(self, folder: Path) -> Path | None:
        """Build the part in C into `folder`; None if that is not possible or not wanted."""
        if os.environ.get("HUAHUO_NATIVE") == "0":
            return None
        builder = runpy.run_path(str(Path(self.root) / NATIVE / "build.py"))
        try:
            built: Path = builder["build"](folder)
        except builder["NotBuiltError"] as error:
            sys.stderr.write(f"native: not built, {error}\n")
            return None
        return built


def _sources(root: Path) -> list[Path]:
    """The floors, without what was built in place for an editable install."""
    found = [root / floor for floor in FLOORS if floor != "transport"]
    found += [
        path for path in sorted((root / "transport").iterdir()) if path.name not in ("native", "__pycache__")
    ]
    return found + [path for path in sorted((root / NATIVE).iterdir()) if path.suffix in (".c", ".h", ".py")]
