"""The `transport` package of huahuo."""
