"""The service inside another program, called from any of its threads.

Exports: `Service` (`service`), the way from a foreign thread onto the loop (`bridge`).
"""
