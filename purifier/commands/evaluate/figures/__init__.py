"""The commands of impure-eval that draw the paper's figures."""
