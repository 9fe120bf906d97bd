"""What of this folder only `make check-all` runs."""

from tests.support.proofs import WHOLE

collect_ignore = [] if WHOLE else ["test_durable_streams_suite.py", "test_node_faults.py"]
"""Installs packages of npm and takes two minutes."""
