"""Build hook: the floors go below `huahuo` in a wheel, and the browser parts are built into it.

In the repository `huahuo/actors` and its like are links to the folders at the top. Archives hold no links,
and hatchling visits a folder that has two names once, so both archives are told here where the floors go. An
editable install uses the links and needs no Node.
"""

import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FLOORS = ("actors", "eventstore", "transport", "replay", "mailcheck")
BUILT = ("huahuo/pages/static/index.html", "huahuo/pages/static/client/huahuo-client.js")


class BrowserParts(BuildHookInterface):  # type: ignore[type-arg]
    """Runs before hatchling collects files."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called once for each archive. Raises RuntimeError if the browser parts cannot be built."""
        if version == "editable":
            return
        root = Path(self.root)
        below = "huahuo/" if self.target_name == "wheel" else ""
        for floor in FLOORS:
            build_data["force_include"][str(root / floor)] = f"{below}{floor}"
        unpacked = (root / "PKG-INFO").is_file()  # a source archive holds what was built for it
        if unpacked and all((root / path).is_file() for path in BUILT):
            return
        done = subprocess.run(
            ["/bin/sh", "scripts/web.sh"], cwd=root, stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode or not all((root / path).is_file() for path in BUILT):
            raise RuntimeError(f"the browser parts were not built:\n{done.stderr.strip()}")
