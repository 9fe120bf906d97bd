"""Which code this is: written on every event, so that history can be replayed against its own code."""

from importlib.metadata import PackageNotFoundError, version

try:
    BUILD = f"huahuo {version('huahuo')}"
except PackageNotFoundError:  # run from a source tree that was never installed
    BUILD = "huahuo (source)"
