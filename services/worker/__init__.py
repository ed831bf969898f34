"""THE SCRIBE: the RQ process that does the diary's jobs: entries into the index, talks into entries."""
