"""Attacks through a defence by somebody who knows it: gradients end to end, expectation over its draws."""
