"""Contents of mails of which only headers were read: fetched when somebody opens one, or in the background.

Exports: the content of one mail (`opening`), many mails over one connection (`fetching`), and what reads the
rest of all mailboxes (`filling`).
"""
