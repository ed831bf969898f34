"""THE SCRIBE: the RQ process that puts accepted entries into the index."""
