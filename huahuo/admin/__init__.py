"""What administrators may do to the log and ask of it, over the wire.

Exports: the actions, the event that records a look (`record_event`), rows and times as they are shown. Pure
but for the actions.
"""
