"""How long a test waits for what must happen: only a failure comes near this deadline.

A machine that does much beside may take ten times as long as a quiet one, and that is no fault of the code.
"""

WITHIN_S = 60.0
