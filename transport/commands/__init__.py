"""The gate that runs each command at most once, and the administrators' own commands.

Exports: the command gate with its answers (`gate`), the administrators' commands (`publishing`), the rules
for their events (`published_events`). What a command is: `huahuo.actors.plugins`.
"""
