"""Is a collection what it says it is: counts, consistency, pixels."""
