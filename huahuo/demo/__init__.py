"""`huahuo demo`: a mail server with sample accounts, the service, and a link for the browser.

Exports: the command's body (`demo`), the sample mail, and pymap as a child process.
"""
