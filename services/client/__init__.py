"""The client: AdaChat for programs and a terminal chat for people. It uses HTTP only."""

from services.client.ada_chat import AdaChat, InferenceConfig

__all__ = ["AdaChat", "InferenceConfig"]
