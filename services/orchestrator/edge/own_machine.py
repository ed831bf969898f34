"""Without keys this machine alone is served; its browser, however, also runs pages of other sites.

A page asks for itself, and then the browser tells its `Origin`; or its site's name is made to point to this
machine (DNS rebinding), and then `Host` is that name. Neither can be changed by a page.
"""

from starlette.datastructures import Headers

from services.errors import NotAllowed
from services.loopback import is_loopback


def check_own_machine(headers: Headers) -> None:
    """Check that a request without a key is no other site's. Raises NotAllowed."""
    host, origin = headers.get("host"), headers.get("origin")
    if host and not is_loopback(f"//{host}"):
        raise NotAllowed(_refusal(f"a request to the host {host[:100]!r}"))
    if origin and not is_loopback(origin):
        raise NotAllowed(_refusal(f"a page of {origin[:100]!r}"))


def _refusal(what: str) -> str:
    return (
        f"without API keys Ada answers this machine alone, and {what} is not of it: "
        "make a key by `make key OWNER=…`, and send it"
    )
