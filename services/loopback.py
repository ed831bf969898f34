"""Addresses of this machine. What runs on it is reached directly, whatever proxies the environment names."""

from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def is_loopback(url: str) -> bool:
    """Whether `url`, with or without a scheme before `//`, names this machine."""
    try:
        return urlsplit(url).hostname in LOOPBACK
    except ValueError:
        return False
