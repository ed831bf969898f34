"""Where narratives come from: one file a source, each a function from a path to samples."""
