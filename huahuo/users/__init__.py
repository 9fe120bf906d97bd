"""Users who sign in with a name and a password: who there is, passwords as argon2id, sign-in, tokens.

Exports: the users folded from the log (`users`), passwords (`passwords`), changes that are made durable
(`book`), sign-in with its limits (`login`, `failures`), and the actions over the wire (`actions`).
"""
