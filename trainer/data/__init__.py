"""Training data: sources, cleaning, de-duplication, the mixture and its tokens."""
