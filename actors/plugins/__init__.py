"""What a plug-in may bring to the service and use of it: entities, commands, queries, snapshots, event types.

Exports: the interface of a plug-in (`plugin`, `past`), its actions (`actions`), calls and their answers
(`calls`), the user of a client (`principal`), and several snapshots of one stream as one (`snapshots`).

Servers that users name: their addresses (`names`), and which may be connected to (`addresses`, pure).
"""
