"""A port that is taken is told before anything is loaded, by the name of the setting that moves it."""

import os
import socket

from services.errors import ConfigError


def http_url(host: str, port: int | str) -> str:
    """The address of a server; an IPv6 host has brackets around it."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def check_port(setting: str, host: str, port: int) -> None:
    """Raises ConfigError when nothing can listen on `host` and `port`."""
    if port < 1024 and os.geteuid():
        return  # not ours to try; Docker may
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"{setting} {port} on {host} can't be had ({error.strerror}): end what uses it, "
                f"or set {setting}"
            ) from None
