"""The commands of impure-eval."""
