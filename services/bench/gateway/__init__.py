"""What the orchestrator costs in front of vLLM: to the first token, requests a second, memory, mix-ups."""
