"""`huahuo replay`: the time-travel debugger's command line, put together from `huahuo.replaying`."""

from huahuo.replaying import commands_looking, commands_runs
from huahuo.replaying.command import app

__all__ = ["app", "commands_looking", "commands_runs"]
