"""What the service shows to a browser.

Exports: the files of the site (`site`) and the frame for a mail's HTML (`mail_frame`). The console is built
into `static/`.
"""
