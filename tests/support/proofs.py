"""Some proofs are slow: the suite has a short form of them, and `make check-all` runs them in full."""

import os

WHOLE = bool(os.environ.get("HUAHUO_WHOLE"))
