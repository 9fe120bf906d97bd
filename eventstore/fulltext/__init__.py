"""Full text next to the log: an index in a database of its own, which can be made anew.

Exports: words of texts (`words`), questions (`asking`), entries (`model`) and the index (`index`).
Plug-ins may use all of it.
"""
