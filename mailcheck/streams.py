"""The names of the streams of the mail domain. Pure."""

from huahuo.actors.plugins.principal import UserId, user_id_of


def user_stream(user_id: UserId) -> str:
    """The public stream of a user."""
    return f"user/{user_id}"


def mailbox_stream(email_id: int) -> str:
    """The internal stream of a mailbox: also the mailbox's name as an entity and as an owner of secrets."""
    return f"mailbox/{email_id}"


def roster_stream(user_id: UserId) -> str:
    """The internal stream of a user's roster, which only the roster writes."""
    return f"roster/{user_id}"


def id_of(stream: str) -> int:
    """The number in a stream's name: 17 for `mailbox/17`. Raises ValueError if there is none."""
    return int(stream.partition("/")[2])


def user_of(stream: str) -> UserId:
    """The user of `user/42` or `roster/42`. Raises ValueError if it is no user's stream."""
    user_id = user_id_of(stream.partition("/")[2])
    if user_id is None:
        raise ValueError(f"{stream} is no stream of a user")
    return user_id
