"""All commands of `huahuo replay`, registered at its group `app`."""

from huahuo.timetravel import commands_looking, commands_runs
from huahuo.timetravel.command import app

__all__ = ["app", "commands_looking", "commands_runs"]
