"""What is known of each upload."""
