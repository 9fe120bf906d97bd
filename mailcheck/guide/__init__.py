"""How `huahuo replay check` decides recorded commands again, with any version of mail.

Nothing here imports code of the project. Exports: the guide (`guide`), which loads `derive` (the command
behind recorded events) from the other file of this folder.
"""
