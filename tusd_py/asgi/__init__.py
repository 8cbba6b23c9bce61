"""How HTTP reaches us."""
