"""Reflection: finds idle chats and builds the requests that make Ada write diary entries about them."""
