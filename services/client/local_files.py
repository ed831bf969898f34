"""The paths in a configuration: an adapter's folder and a diary file on this machine.

Ada may run elsewhere, so the folder is only compared with the adapter she serves, and the diary is imported
over the API.
"""

import hashlib
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

Ask = Callable[..., dict[str, Any]]  # method, path, and httpx's keyword arguments
FORMATS = (".json", ".jsonl", ".csv", ".md")
INDEXED_WITHIN_S = 60.0  # a longer diary becomes searchable later; nothing is lost
POLL_S = 0.1


class FileMismatch(Exception):
    """A file or folder can't be used; the message names it and the remedy."""


def check_served(folder: Path, ask: Ask) -> None:
    """Check that the adapter in `folder` is the one that Ada serves. Raises FileMismatch."""
    run_id = _run_id(folder)
    served = ask("GET", "/v1/models/ada")["ada"]["adapter"]
    if served != run_id:
        raise FileMismatch(
            f"model_path: {folder} holds the run {run_id}, and Ada serves {served}: leave model_path out, "
            f"or run `make publish RUN={run_id}` and start Ada again"
        )


def import_diary(file: Path, ask: Ask) -> dict[str, Any]:
    """Import a diary and return the report; importing the same file again changes nothing.

    Warns of rejected rows. Raises FileMismatch when all rows are rejected.
    """
    content = _diary(file)
    # With this key the server recognises the file: entries removed since are not imported again.
    key = f"diary-file-{hashlib.sha256(content).hexdigest()}"
    upload = {"files": {"file": (file.name, content)}, "headers": {"Idempotency-Key": key}}
    report = ask("POST", "/v1/diary/import", **upload)
    _tell_rejected(file, report)
    _wait_until_indexed(report, ask)
    return report


def _run_id(folder: Path) -> str:
    manifest = folder / "MANIFEST.json"
    try:
        return str(json.loads(manifest.read_text(encoding="utf-8"))["run_id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileMismatch(
            f"model_path: {manifest} can't be read ({type(error).__name__}): "
            "name the folder of a finished run, such as outputs/ada_model"
        ) from None


def _diary(file: Path) -> bytes:
    if file.suffix.lower() not in FORMATS:
        raise FileMismatch(f"diary_path: {file} ends in none of {', '.join(FORMATS)}")
    try:
        return file.read_bytes()
    except OSError as error:
        raise FileMismatch(
            f"diary_path: {file} can't be read ({error.strerror}): "
            "leave diary_path out when there is nothing to import, the diary is kept by the server"
        ) from None


def _tell_rejected(file: Path, report: dict[str, Any]) -> None:
    if not report["rejected"]:
        return
    first = report["rejected"][0]
    where = f"line {first['line']}: {first['reason']}"
    message = f"diary_path: {file}: {report['rejected_count']} rows are no entries; {where}"
    if not report["accepted"] and not report["duplicates"]:
        raise FileMismatch(message)
    warnings.warn(message, stacklevel=4)


def _wait_until_indexed(report: dict[str, Any], ask: Ask) -> None:
    """Wait, so that the first question can recall the imported entries."""
    until = time.monotonic() + INDEXED_WITHIN_S
    while time.monotonic() < until:
        if ask("GET", f"/v1/jobs/{report['job_id']}")["status"] in ("finished", "failed"):
            return
        time.sleep(POLL_S)
