"""How long vLLM is waited for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Deadlines:
    """Seconds: for a connection, the first byte of a stream, each next one, and a whole answer."""

    connect_s: float = 5.0
    first_s: float = 120.0
    silence_s: float = 60.0
    whole_s: float = 900.0
