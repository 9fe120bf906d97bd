"""The `replay` package of huahuo."""
