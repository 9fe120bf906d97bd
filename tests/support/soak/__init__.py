"""A real service under clients that come and go for minutes; then all that it holds is as before them."""
