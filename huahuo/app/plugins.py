"""The plug-ins of a service that names none: mail. Nothing else in `huahuo` knows it by name."""

from huahuo.actors.plugins.plugin import Plugin
from huahuo.mailcheck import mail


def standard() -> tuple[Plugin, ...]:
    """The plug-ins of `huahuo serve` and of the commands on its data directory."""
    return (mail(),)
