"""Whole diaries handed in: one small reader a format, each streaming, each naming the row that it refuses."""
