"""Real clients, and the shape of their requests, against the real server on loopback."""
