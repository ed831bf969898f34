"""Reflections: entries that Ada writes herself about a conversation."""
