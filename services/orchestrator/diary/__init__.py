"""The diary and its jobs over HTTP: one file a noun."""
