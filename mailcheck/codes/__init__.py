"""Verification codes: the code in a mail, found in its subject or text, in eight languages. Pure.

Exports: `code_of`, `find_code` and `Code` (`finding`). `plain` takes markup and links out of a mail's text,
`words` holds what people write around a code,
`weights` how much signs count where no word names one.
"""
