"""The persona: names, backstory, chat template, prompt builder, and the manifest of an adapter.

Standard library and jinja2 only, because this package also runs inside vLLM's own image.
"""
