"""Synthetic conversations of a persona, written by any OpenAI-compatible model."""
