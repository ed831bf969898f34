"""Checks of URLs, and addresses of this machine. Servers on it are reached directly, without a proxy."""

from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def is_loopback(url: str) -> bool:
    """Whether `url`, with or without a scheme before `//`, names this machine."""
    try:
        return urlsplit(url).hostname in LOOPBACK
    except ValueError:
        return False


def is_http_url(url: str) -> bool:
    """Whether `url` is an HTTP or HTTPS URL with a host, whose port, if it has one, is valid and not 0."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
