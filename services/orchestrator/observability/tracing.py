"""Traces, by switch: a span a request, and parts of the work as its children."""

from services.tracing import outgoing_headers as outgoing_headers
from services.tracing import span as span
