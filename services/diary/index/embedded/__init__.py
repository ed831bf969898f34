"""The index in Qdrant's embedded engine: one process, many threads."""
