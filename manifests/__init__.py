"""What is on disk: configs, schemas, paths, safe readers. Never imports torch."""
