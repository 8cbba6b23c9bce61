"""Who is asking: tokens, JSON Web Tokens, signed URLs."""
