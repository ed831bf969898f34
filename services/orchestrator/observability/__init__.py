"""Access log, metrics, request ids and traces."""
