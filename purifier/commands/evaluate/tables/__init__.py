"""The commands of impure-eval that measure the paper's tables, compare defences and rank them."""
