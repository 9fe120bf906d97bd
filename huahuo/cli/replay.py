"""`huahuo replay`: the command line of the time-travel debugger, made from `huahuo.timetravel`."""

from huahuo.timetravel import commands_looking, commands_runs
from huahuo.timetravel.command import app

__all__ = ["app", "commands_looking", "commands_runs"]
