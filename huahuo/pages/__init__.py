"""The pages that the service serves to a browser.

Exports: the files of the site (`site`) and the frame for a mail's HTML (`mail_frame`). The build puts the
console into `static/`.
"""
