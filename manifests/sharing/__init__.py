"""Collections between machines and people: transfer, merge, and the cards that describe them."""
