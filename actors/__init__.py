"""The `actors` package of huahuo."""
