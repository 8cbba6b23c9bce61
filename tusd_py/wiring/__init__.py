"""Names the implementations; what the command knows of the rest of the house."""
