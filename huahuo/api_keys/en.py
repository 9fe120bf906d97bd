"""What users of API keys are told, in English. See `zh`."""

MADE_BEFORE = "the key was made before and is shown once: if it is lost, revoke it and make another one"
KEY_REVOKED = "the key is revoked"
REFUSED = "that was not done"
ADMINS_ONLY = "only administrators may do this"
