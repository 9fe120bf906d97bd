"""Python imports this first where its folder is on the path: the clock is `CLOCK_AHEAD_S` seconds ahead."""

import os
import time

_NS = round(float(os.environ.get("CLOCK_AHEAD_S", "0")) * 1e9)
_time_ns = time.time_ns
time.time_ns = lambda: _time_ns() + _NS
time.time = lambda: time.time_ns() / 1e9
