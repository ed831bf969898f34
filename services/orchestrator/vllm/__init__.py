"""The client of the vLLM server, with its limits, deadlines and response validation."""
