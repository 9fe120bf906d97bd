"""Actions of administrators on the log, over the wire.

Exports: the actions, the event that records an access to the log (`record_event`), rows and times as they are
shown. Pure except for the actions.
"""
