"""The version of this code. Every event carries it, so that history can be replayed with its own code."""

from importlib.metadata import PackageNotFoundError, version

try:
    BUILD = f"huahuo {version('huahuo')}"
except PackageNotFoundError:  # run from a source tree that was never installed
    BUILD = "huahuo (source)"
