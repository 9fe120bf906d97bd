"""`huahuo replay`: the commands of the time-travel debugger, imported when one is asked for."""

from huahuo.options import later

app = later(
    "replay",
    "The log as a time-travel debugger: read-only, on a live directory, a copy or an export.",
    "huahuo.timetravel.commands",
)
