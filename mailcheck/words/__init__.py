"""What mail says to its users: one catalogue for each language. Pure."""
