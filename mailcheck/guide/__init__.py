"""How `huahuo replay check` decides recorded commands again, with any version of mail.

Nothing here imports code of the project. Exports: the guide (`guide`), which loads `layouts` (where a version
keeps its classes) and `derive` (the
command behind recorded events) from the other files of this folder.
"""
