"""The users of the tests: a member of a group, another user, and an administrator."""

from huahuo.actors.plugins.calls import Principal

ALICE = Principal(user_id=42, username="alice", groups=("ops",))
BOB = Principal(user_id=43, username="bob")
ROOT = Principal(user_id=1, username="root", is_admin=True)
