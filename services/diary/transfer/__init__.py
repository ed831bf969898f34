"""Import and export of whole diaries, one reader for each format."""
