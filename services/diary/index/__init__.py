"""The search index: chunks, dense vectors and BM25, in the embedded Qdrant engine or on a Qdrant server."""
