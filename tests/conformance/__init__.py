"""For authors of clients: `python -m tests.conformance URL -- COMMAND` (docs/client-in-any-language.md)."""
