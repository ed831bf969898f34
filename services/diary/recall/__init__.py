"""Recall: hybrid search, ranking by time and neighbours, near-duplicates, and excerpts."""
