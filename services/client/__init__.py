"""THE DOORBELL: AdaChat for programs and a terminal chat for people. Talks HTTP only."""

from services.client.ada_chat import AdaChat, InferenceConfig

__all__ = ["AdaChat", "InferenceConfig"]
