"""Commands of `impure-data` that make or mend collections."""
