"""Finding mails: the index over subject, sender, recipients and text, kept next to the log.

Exports: a mail as the index takes it (`entries`), and the index with what feeds it (`index`).
"""
