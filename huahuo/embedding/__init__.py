"""The service inside another program, called from any of its threads.

Exports: `Service` (`service`), and calls from other threads onto the loop (`bridge`).
"""
