"""The classifiers under attack."""
