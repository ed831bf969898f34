"""THE VOICE: the FastAPI app, OpenAI-compatible, in front of vLLM and the diary."""
