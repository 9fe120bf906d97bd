"""The command line: names, flags and help, and the bodies of the short commands.

Exports: `main`, and one module for each command or group of commands.
"""
