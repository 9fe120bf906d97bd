"""Benchmarks: each file answers one question; see its docstring."""
