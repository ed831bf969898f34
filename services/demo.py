"""The demo: the whole loop on a bare machine, as `make demo`.

    python -m services.demo [--keep]

Trains a small Ada on the samples, starts her, queues twenty diary entries, asks three questions through
the `openai` client, restarts her and asks again. It uses processes and HTTP only, and connects directly,
ignoring proxies.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from openai import DefaultHttpxClient, OpenAI

from services.errors import AdaError
from services.printable import printable
from services.process.supervisor import end_with_parent

ADAPTER = Path("outputs/ada_model")
DIARY = Path("data/samples/diary.jsonl")
CONFIG = "trainer/configs/bare.yaml"
LOG = Path("logs/embedded.log")
READY_WITHIN_S = 300
# Each with the entry that contains its answer: the last one can be answered only from the diary.
QUESTIONS = (
    ("Where did you grow up, Ada?", None),
    ("What do you do for a living?", None),
    ("What did you call the stray dog that followed you home along the prom?", "demo-14"),
)


class DemoFailed(AdaError):
    """A check of the demo failed; the message names it."""


@dataclass
class Clock:
    """How long each part took, in seconds."""

    parts: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        print(f"\n== {part}", flush=True)
        started = time.monotonic()
        yield
        self.parts.append((part, time.monotonic() - started))

    def table(self) -> str:
        """One line for each part."""
        total = sum(seconds for _, seconds in self.parts)
        return "\n".join(f"{s:7.1f} s  {part}" for part, s in [*self.parts, ("in all", total)])


def main() -> int:
    """Entry point; everything that was started is stopped again, also on Ctrl-C."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__.splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="leave Ada up at the end")
    keep = parser.parse_args().keep
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends in order, as Ctrl-C does
    port = os.environ.get("ADA_PORT") or "8080"
    try:
        if not port.isdecimal():
            raise DemoFailed(f"ADA_PORT is {port!r}: it must be a whole number")
        run(f"http://127.0.0.1:{port}", keep)
    except KeyboardInterrupt:
        print("\ndemo: interrupted; all that it started has been stopped", file=sys.stderr)
        return 130
    except DemoFailed as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    print("DEMO OK")
    return 0


def run(url: str, keep: bool) -> None:
    """The demo, straight through. Raises DemoFailed."""
    clock = Clock()
    _check_nobody_is_there(url)
    with clock.time("train a small Ada on data/samples"):
        train()
    with clock.time("start Ada: Valkey, API and worker, vLLM"):
        ada = start(url)
    try:
        with clock.time("write twenty diary entries, through the queue"):
            write_diary(url)
        with clock.time("ask"):
            ask(url)
        with clock.time("stop and start again"):
            stop(ada)
            ada = start(url, outlives_us=keep)
        with clock.time("ask again"):
            ask(url)
    except BaseException:
        print("\nstopping what was started", flush=True)
        stop(ada)
        raise
    if keep:
        print(f"\n{how_to_talk(url, ada.pid)}")
    else:
        with clock.time("stop"):
            stop(ada)
    print(f"\n{clock.table()}")


def _check_nobody_is_there(url: str) -> None:
    """Else the questions would go to another Ada, and the training would be for nothing."""
    try:
        httpx.get(f"{url}/healthz", timeout=5, trust_env=False)
    except httpx.HTTPError:
        return
    raise DemoFailed(f"something answers at {url} already: end it, or set ADA_PORT")


def train() -> None:
    """Train by the trainer's own command line; the held-out loss must have fallen."""
    result = subprocess.run([sys.executable, "-m", "trainer", "--config", CONFIG], check=False)
    if result.returncode:
        raise DemoFailed(f"the training ended with exit code {result.returncode}, see above")
    manifest = json.loads((ADAPTER / "MANIFEST.json").read_text(encoding="utf-8"))
    before, after = manifest["loss_before"], manifest["loss_after"]
    print(
        f"{manifest['steps']} steps, held-out loss {before:.3f} → {after:.3f}, "
        f"peak memory {manifest['peak_memory_gib']} GiB"
    )
    if not after < before:
        raise DemoFailed(f"the held-out loss did not fall: {before:.3f} → {after:.3f}")


def start(url: str, *, outlives_us: bool = False) -> subprocess.Popen[bytes]:
    """Start Ada and wait until /readyz says so."""
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("ab") as log:
        ada = subprocess.Popen(
            [sys.executable, "-m", "services.embedded"],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=None if outlives_us else end_with_parent,
        )
    try:
        _wait(lambda: _is_ready(ada, url), READY_WITHIN_S, "Ada was not ready")
    except BaseException:
        stop(ada)
        raise
    return ada


def _is_ready(ada: subprocess.Popen[bytes], url: str) -> bool:
    if ada.poll() is not None:
        last = LOG.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1]
        raise DemoFailed(f"Ada ended at once: {last}")
    try:
        return httpx.get(f"{url}/readyz", timeout=30, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def stop(ada: subprocess.Popen[bytes]) -> None:
    """Stop Ada and the processes that she started."""
    ada.terminate()
    try:
        ada.wait(90)
    except subprocess.TimeoutExpired:
        ada.kill()
        ada.wait()


def write_diary(url: str) -> None:
    """Queue the entries and wait for each job; their ids make a second demo harmless."""
    jobs = []
    for line in DIARY.read_text(encoding="utf-8").splitlines():
        answer = httpx.post(f"{url}/v1/diary/entries", json=json.loads(line), timeout=30, trust_env=False)
        if answer.status_code != 202:
            raise DemoFailed(f"a diary entry was not accepted: {answer.text}")
        jobs.append(answer.json()["job_id"])
    print(f"{len(jobs)} entries accepted", flush=True)
    for job in jobs:
        _wait(lambda job=job: _is_finished(url, job), 60, f"job {job} did not finish")  # type: ignore[misc]
    print(f"{len(jobs)} jobs finished")


def _is_finished(url: str, job: str) -> bool:
    report = httpx.get(f"{url}/v1/jobs/{job}", timeout=30, trust_env=False).json()
    if report.get("status") == "failed":
        raise DemoFailed(f"job {job} failed: {report['reason']}")
    return bool(report.get("status") == "finished")


def ask(url: str) -> None:
    """Ask the questions through OpenAI's client, and print the recalled entries below each answer."""
    direct = DefaultHttpxClient(trust_env=False)
    with OpenAI(base_url=f"{url}/v1", api_key="none", timeout=300, http_client=direct) as client:
        about = [_ask_one(client, question, needed) for question, needed in QUESTIONS]
    print(printable(f"\n[{about[-1]['disclosure']}]"), flush=True)


def _ask_one(client: OpenAI, question: str, needed: str | None) -> dict[str, Any]:
    """Ask one question; returns the `ada` field of the answer."""
    lines = DIARY.read_text(encoding="utf-8").splitlines()
    texts = {entry["id"]: entry["text"] for entry in map(json.loads, lines)}
    started = time.monotonic()
    raw = client.chat.completions.with_raw_response.create(
        model="ada",
        messages=[{"role": "user", "content": question}],
        max_tokens=80,
        seed=1,
        extra_body={"ada": {"top_k": 3}},
    )
    answer = raw.parse()
    about: dict[str, Any] = (answer.model_extra or {}).get("ada", {})
    user, assistant = _names()
    text = printable(answer.choices[0].message.content or "")
    print(printable(f"\n{user}: {question}"), _wrapped(f"{printable(assistant)}: ", text), sep="\n")
    print(f"      ({time.monotonic() - started:.1f} s; diary: {about['diary']['status']})")
    for entry in about["diary"]["entries"]:
        shown = f"{entry['date']} {entry['score']:.2f} {texts.get(entry['id'], '')}"
        print(textwrap.shorten(printable(f"      · {entry['id']} {shown}"), 108, placeholder=" …"))
    recalled = [entry["id"] for entry in about["diary"]["entries"]]
    if needed and needed not in recalled:
        raise DemoFailed(f"{needed} holds the answer and was not recalled, but {recalled}")
    if "ai-disclosure" not in raw.headers or not about.get("disclosure"):
        raise DemoFailed("an answer came without its disclosure")
    return about


def _names() -> tuple[str, str]:
    """The names of the user and the assistant in the trained persona."""
    manifest = json.loads((ADAPTER / "MANIFEST.json").read_text(encoding="utf-8"))
    return manifest["user_name"], manifest["assistant_name"]


def how_to_talk(url: str, pid: int) -> str:
    """The commands to try while Ada is running."""
    body = '{"model": "ada", "stream": true, "messages": [{"role": "user", "content": "Hello Ada"}]}'
    return f"""Ada is up at {url} (process {pid}, log in {LOG}). Try:
  make chat
  curl -N {url}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'
  OpenAI(base_url="{url}/v1", api_key="none")      # in Python, from any environment
Stop it with `kill {pid}`; `make serve` starts it again, with the diary."""


def _wait(done: Callable[[], bool], seconds: float, complaint: str) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise DemoFailed(f"{complaint} within {seconds:.0f} s; the log is {LOG}")
        time.sleep(0.25)


def _wrapped(speaker: str, text: str) -> str:
    return textwrap.fill(text, 108, initial_indent=speaker, subsequent_indent=" " * len(speaker))


if __name__ == "__main__":
    sys.exit(main())
