"""A log that several nodes share: each applies one order of proposals to a replica of its own.

Pure: `proposal`, `birth`, `shared`, `agreement`, `apply`, `blocks`. Shells: `applying`,
`proposing_writer` and `writer`, each the base of the next, and `opening`, which any engine's `open` is called
by. Exports nothing: import from these.
"""
