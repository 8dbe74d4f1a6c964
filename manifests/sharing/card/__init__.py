"""The card of a collection, and the files that make it a data set which others can use."""
