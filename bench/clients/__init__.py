"""The receiving side: many WebSocket connections in a process of their own, cheap enough not to count."""
