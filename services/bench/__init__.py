"""Benchmarks: measures Ada against baselines, on files that the caller provides.

They use the other packages from outside; nothing imports them.
"""
