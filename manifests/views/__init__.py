"""Looking at a collection: contact sheets and SQL."""
