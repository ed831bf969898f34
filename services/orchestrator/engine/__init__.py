"""vLLM as the orchestrator sees it."""
