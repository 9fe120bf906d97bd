"""An application's own entities: events, commands and effects as structs, handlers as plain functions.

Exports: the structs (`structs`), what `decide` answers (`decision`), the declaration (`entity`), all of an
application's declarations checked together (`catalog`), an entity as the engine's fold and decider (`fold`,
`bounds`, `decider`; a command and its answer: `sent`), and all entities as one plug-in (`plugin`, `past`).
"""
