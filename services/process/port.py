"""Checks that a port is free before anything is loaded; the error names the setting that changes the port."""

import os
import socket

from services.errors import ConfigError


def http_url(host: str, port: int | str) -> str:
    """Return the URL of a server; an IPv6 host is put in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def check_port(setting: str, host: str, port: int) -> None:
    """Raises ConfigError when nothing can listen on `host` and `port`."""
    if port < 1024 and os.geteuid():
        return  # only root may bind it, and Docker does
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"{setting} {port} on {host} can't be used ({error.strerror}): end the program that uses it, "
                f"or set {setting}"
            ) from None
