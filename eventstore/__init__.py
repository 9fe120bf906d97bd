"""The `eventstore` package of huahuo."""
