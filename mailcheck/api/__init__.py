"""The domain's commands and queries as the transport calls them, and what they read.

Exports: their fields (`params`), their handlers, and mails with their contents, attachments and index.
"""
