"""Reflection on chats that have become idle, and the request that asks Ada for an entry."""
