"""Tests of applications: decisions without a service, and the whole service in virtual time.

Exports: `given` (`decisions`), and `AppWorld` (`world`), which the fixture `app` of the pytest plug-in
(`pytest_plugin`) is. `AppWorld` is imported at its first use, because it needs the whole service.
"""

from typing import TYPE_CHECKING

from huahuo.testing.decisions import Given, given

if TYPE_CHECKING:
    from huahuo.testing.world import AppWorld

__all__ = ["AppWorld", "Given", "given"]


def __getattr__(name: str) -> object:
    if name != "AppWorld":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from huahuo.testing.world import AppWorld

    return AppWorld
