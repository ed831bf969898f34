"""The API gateway: a FastAPI application, OpenAI-compatible, in front of vLLM and the diary."""
