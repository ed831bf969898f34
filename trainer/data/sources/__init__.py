"""Where training rows come from: one module for each source, and readers that they share."""
