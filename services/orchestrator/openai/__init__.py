"""OpenAI's routes: chat completions, completions, responses and models."""
