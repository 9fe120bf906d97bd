"""Parts of tests that need what a machine without it cannot offer, such as Docker: named at the end of a run.

A skip says that something must be installed, and fails a run in CI. Nobody is asked to install these.
"""

import pytest

PROPERTY = "absent here"
"""The property of a test that names what was not there, and what was therefore not tested."""


def absent(request: pytest.FixtureRequest, what: str) -> None:
    """List `what` at the end of the run, as not tested."""
    request.node.user_properties.append((PROPERTY, what))
