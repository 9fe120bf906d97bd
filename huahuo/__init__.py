"""The `huahuo` package of huahuo."""
