"""Ports of 127.0.0.1 that no other lane of the suite gets, for servers that a test stops and starts again."""

from huahuo.demo.demo import held_port

__all__ = ["held_port"]
