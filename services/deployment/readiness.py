"""Waits until Ada is ready, or until a container reports why she can't be."""

import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from services.deployment.engine import compose_output, run
from services.errors import AdaError
from services.process.start import RETRY_EVERY_S

READY_WITHIN_S = 900  # weights of 16 GB from a slow disk
MANY_RESTARTS = 3
SETTLED_S = RETRY_EVERY_S + 3  # a problem that was fixed meanwhile is no longer reported by then
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # Ada is on this machine


class NotReady(AdaError):
    """The containers run, but Ada can't answer; the message says why."""


def wait_until_ready(url: str, files: str) -> None:
    """Wait for /readyz. Raises NotReady when a container keeps reporting an error or keeps exiting."""
    deadline = time.monotonic() + READY_WITHIN_S
    waiting_for = ""
    first_heard: dict[str, float] = {}
    while time.monotonic() < deadline:
        ready, missing = _readiness(url)
        if ready:
            return
        if missing != waiting_for:
            print(f"waiting for: {missing}", flush=True)
            waiting_for = missing
        complaints = dict(_complaints(files))
        first_heard = {service: first_heard.get(service, time.monotonic()) for service in complaints}
        for service, complaint in complaints.items():
            if time.monotonic() - first_heard[service] >= SETTLED_S:
                raise NotReady(
                    f"Ada is not ready: {complaint} (what is up stays up, and the rest follows by itself)"
                )
        time.sleep(1)
    raise NotReady(f"Ada was not ready within {READY_WITHIN_S} s ({waiting_for}): see `make logs`")


def _readiness(url: str) -> tuple[bool, str]:
    """Whether /readyz reports ready, and otherwise the names of the failing checks."""
    try:
        with _DIRECT.open(f"{url}/readyz", timeout=30) as answer:
            return answer.status == 200, ""
    except urllib.error.HTTPError as error:
        body = error.read()
    except (OSError, http.client.HTTPException):
        return False, "the orchestrator"
    try:
        checks = json.loads(body)["checks"].items()
    except (ValueError, TypeError, KeyError, AttributeError):
        return False, "the orchestrator"
    return False, ", ".join(name for name, outcome in checks if outcome != "ok")


def _complaints(files: str) -> Iterator[tuple[str, str]]:
    """For each unhealthy container: its service, and why it waits or that it keeps exiting."""
    for line in compose_output(files, "ps", "--all", "--format", "json").splitlines():
        container = json.loads(line)
        service, state = container["Service"], container["State"]
        if container.get("Health") == "healthy" or service == "trainer":
            continue
        last_line = compose_output(
            files, "logs", "--no-log-prefix", "--no-color", "--tail", "1", service
        ).strip()
        restarts = run("docker", "inspect", "--format", "{{.RestartCount}}", container["ID"]).stdout.strip()
        if re.match(r"(model|orchestrator|worker): ", last_line):
            yield service, last_line
        elif state in ("exited", "dead") or int(restarts or 0) >= MANY_RESTARTS:
            yield (
                service,
                f"{service} keeps ending, started again {restarts} times; its last words: {last_line[:300]}",
            )
