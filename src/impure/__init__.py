"""Collections of adversarial image pairs, and the purifiers trained and judged on them."""
