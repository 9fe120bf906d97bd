"""The mail domain: rosters and mailboxes are entities, IMAP checks are their effects.

Rooms: `roster`, `mailbox`, `tables`, `checks`, `servers`, `imap`, `mime`, `api`.
"""

if __name__ != "huahuo.mailcheck":  # the repository's root is on the path, so Python finds this folder too
    raise ImportError("import huahuo.mailcheck, not mailcheck")
