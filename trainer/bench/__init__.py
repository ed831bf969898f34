"""Benchmarks of training against other stacks."""
