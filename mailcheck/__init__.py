"""Mail as a plug-in: rosters and mailboxes are entities, IMAP checks are their effects.

Exports: `mail()`. Its rooms are in docs/architecture.md.
"""

from typing import TYPE_CHECKING

if __name__ != "huahuo.mailcheck":  # the repository's root is on the path, so Python finds this folder too
    raise ImportError("import huahuo.mailcheck, not mailcheck")

if TYPE_CHECKING:
    from huahuo.actors.plugins.plugin import Plugin


def mail() -> "Plugin":
    """Mail, for `Huahuo(plugins=[mail()])` and its like."""
    from huahuo.mailcheck.plugin.mail import Mail  # not at the top: each module of mail can be imported alone

    return Mail()
