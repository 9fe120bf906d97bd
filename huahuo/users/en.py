"""What users are told about their accounts, in English. See `zh`."""

USER_ADDED = "the user is added"
USER_DISABLED = "the user can no longer sign in"
USER_ENABLED = "the user can sign in again"
USER_REMOVED = "the user is removed"
PASSWORD_SET = "the password is set"  # noqa: S105  a text
PASSWORD_CHANGED = "the password is changed: sign in again"  # noqa: S105  a text
SIGNED_OUT = "all sessions are ended"
REFUSED = "that was not done"
NO_SUCH_USER = "there is no such user"
OLD_PASSWORD_WRONG = "the old password is wrong"  # noqa: S105  a text

NAME_TAKEN = "this name is taken"
NAME_INVALID = "a name has 1 to {} visible characters and no blank at its ends"
PASSWORD_LENGTH = "a password has {} to {} characters"  # noqa: S105  a text
NEEDS_ARGON2 = (
    "this service has no passwords: its operator can install them by pip install 'huahuo[passwords]'"
)
REGISTRATION_OFF = "registration is switched off"
LINK_USED = "this link was used, or is of another start of the service"
USERS_ALREADY = "there are users already"
LAST_ADMIN = "this is the last administrator: add another one first"
TOO_OFTEN = "too many tries: try again later"
REGISTRATION_ON = "anybody may make an account"
