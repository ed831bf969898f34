"""Without keys this machine alone is served; its browser, however, also runs pages of other sites.

A page asks for itself, and then the browser tells its `Origin`, or, where it only loads or follows a link,
by `Sec-Fetch-Site` that it is another site's; or its site's name is made to point to this machine (DNS
rebinding), and then `Host` is that name. None of them can be changed by a page.
"""

from starlette.datastructures import Headers

from services.errors import Unauthorized
from services.loopback import is_loopback
from services.orchestrator.http.cors import Origins

NO_ORIGINS = Origins()


def check_loopback_origin(headers: Headers, origins: Origins = NO_ORIGINS) -> None:
    """Check that a request without a key is no other site's, or is of one allowed by name. Raises NotAllowed.

    A page that another program of this machine serves, on another port, is no other site's.
    """
    host, origin = headers.get("host"), headers.get("origin")
    if host and not is_loopback(f"//{host}"):
        raise Unauthorized(_refusal(f"a request to the host {host[:100]!r}"))
    if origins.names(origin):
        return
    if origin and not is_loopback(origin):
        raise Unauthorized(_refusal(f"a page of {origin[:100]!r}"))
    if not origin and headers.get("sec-fetch-site") == "cross-site":
        raise Unauthorized(_refusal("a page of another site"))


def _refusal(what: str) -> str:
    return (
        f"without API keys Ada answers this machine alone, and {what} is not of it: "
        "make a key by `make key OWNER=…`, and send it"
    )
