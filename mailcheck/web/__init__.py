"""HTTP to token endpoints and Microsoft Graph: through the same door as IMAP, bounded, tried again.

Exports: requests over HTTP (`requests`), when to try again (`retrying`), what a token endpoint's answer means
(`answers`), access tokens (`tokens`), sign-in with a code on another device (`device_code`), and the mails of
a mailbox by Graph (`graph`).
"""
