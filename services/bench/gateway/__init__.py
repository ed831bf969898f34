"""What the orchestrator costs in front of vLLM: time to the first token, throughput, memory, mix-ups."""
