"""The `mailcheck` package of huahuo."""
