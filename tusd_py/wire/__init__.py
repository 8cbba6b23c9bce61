"""The fast path: what our own server does below ASGI."""
