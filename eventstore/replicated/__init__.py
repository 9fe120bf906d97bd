"""A log that several nodes share: each applies one order of proposals to a replica of its own.

Pure: `proposal`, `birth`, `shared`, `agreement`, `apply`, `blocks`. Shells: `writer`, which proposes and
applies, and `opening`, which any engine's `open` is called by. Exports nothing: import from these.
"""
