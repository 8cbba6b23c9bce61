"""What happens to an upload: one file per use case; no HTTP, no SQL, no sockets."""
