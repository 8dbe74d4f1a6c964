"""Commands of `impure-train`, `impure-eval`, `impure-purify` and `impure-model`."""
