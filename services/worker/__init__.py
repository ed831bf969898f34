"""The indexing worker: an RQ process that puts entries into the index and makes entries of conversations."""
