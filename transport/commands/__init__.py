"""The gate that runs each command at most once, and the administrators' own commands.

Exports: the command gate (`gate`) and its answers (`answers`), the administrators' commands (`publishing`)
with their rules (`publish_rules`). What a command is: `huahuo.actors.plugins`.
"""
