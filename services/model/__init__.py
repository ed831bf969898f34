"""The model server: starts vLLM from an adapter's manifest.

Standard library and services.persona only, because it runs inside vLLM's own image.
"""
