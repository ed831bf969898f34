"""Measures how long a diary takes from a file until it can be searched, and how fast it is searched then.

    python -m services.bench.ingest FILE [--out outputs/bench/ingest.json] [--chunks 100000]

FILE is JSON Lines of {"date", "text"}; a row without a date is imported as usual, and gets the day of
writing. The file takes a user's path: over HTTP into an all-in-one server, as `make serve` runs it, in a
directory of its own. Linux only.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from services.api_keys import LOCAL
from services.bench.server_process import AllInOneServer, all_in_one_server, environment
from services.bench.synthetic_chunks import fill
from services.diary.embedding.embedder import Embedder, open_embedder
from services.diary.index.embedded.index import EdgeIndex
from services.diary.index.engine import IndexEngine
from services.diary.ledger.ledger import Ledger
from services.diary.ledger.paging import EntryFilter
from services.diary.recall.query import RecallQuery
from services.diary.recall.recall import Recall
from services.diary.settings import DiarySettings

QUESTIONS, WORDS_PER_QUESTION = 500, 8
TOP_K = 6  # as in a chat
Report = dict[str, Any]


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="services.bench.ingest", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", type=Path, help='JSON Lines of {"date", "text"}')
    parser.add_argument("--out", type=Path, default=Path("outputs/bench/ingest.json"))
    parser.add_argument("--chunks", type=int, default=0, help="fill up to so many chunks and search again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ada-bench-") as folder:
        report = run(options.file, Path(folder), options.chunks)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written to {options.out}")
    return 0


def run(file: Path, folder: Path, chunks: int) -> Report:
    """The whole measurement, printed as it goes on."""
    settings = environment(folder)
    report: Report = {"file": file.name, "cores": os.cpu_count()}
    with all_in_one_server(folder, settings) as server:
        _add(report, import_diary(server, file))
        peaks_mb = server.peaks_mb()
        _add(report, {"peak_mb": peaks_mb, "peak_mb_in_all": sum(peaks_mb.values())})
    with open_diary(settings) as diary:
        texts = [entry.text for entry in diary.ledger.for_owner(LOCAL).iter_entries(EntryFilter())]
        words = sum(len(text.split()) for text in texts)
        _add(report, {"words": words, "words_per_s": round(words / report["searchable_s"])})
        _add(report, {"chunks": diary.index.count(), "recall": recall_latency(diary.recall, texts)})
        if chunks > diary.index.count():
            fill(diary.ledger, LOCAL, diary.index, diary.embedder, texts, chunks)
            latency = recall_latency(diary.recall, texts)
            _add(report, {"filled_to": diary.index.count(), "recall_filled": latency})
    return report


def _add(report: Report, more: Report) -> None:
    """Print more values and add them to the report."""
    for name, value in more.items():
        print(f"{name:>16}  {value}", flush=True)
    report |= more


def import_diary(server: AllInOneServer, file: Path, headers: dict[str, str] | None = None) -> Report:
    """Import the file over HTTP and wait until the worker has written all of it into the index."""
    start, cpu_before_s = time.monotonic(), server.cpu_s()
    http = httpx.Client(base_url=server.url, timeout=600, headers=headers, trust_env=False)
    with http as client, file.open("rb") as body:
        response = client.post("/v1/diary/import", params={"name": file.name}, content=body)
        response.raise_for_status()
        accepted_s = time.monotonic() - start
        report = response.json()
        while report["queued"]:
            time.sleep(0.2)
            report = client.get(f"/v1/diary/imports/{report['import_id']}").json()
    searchable_s = time.monotonic() - start
    return {
        "accepted": report["accepted"],
        "duplicates": report["duplicates"],
        "rejected": report["rejected_count"],
        "undated": report["undated"],
        "failed": report["failed"],
        "accepted_s": round(accepted_s, 1),
        "searchable_s": round(searchable_s, 1),
        "cpu_s": round(server.cpu_s() - cpu_before_s, 1),
        "entries_per_s": round(report["indexed"] / searchable_s, 1),
    }


@dataclass(frozen=True)
class Diary:
    """The same diary, opened in this process after the server has stopped."""

    ledger: Ledger
    index: IndexEngine
    embedder: Embedder
    recall: Recall


@contextmanager
def open_diary(settings: dict[str, str]) -> Iterator[Diary]:
    """Ledger, index and embedder with the settings of the server."""
    embedder = open_embedder(DiarySettings.load())
    index = EdgeIndex(Path(settings["INDEX_PATH"]), embedder.name, embedder.dimension)
    with Ledger(settings["LEDGER_URL"]) as ledger:
        yield Diary(ledger, index, embedder, Recall(ledger, embedder, index))
    index.close()


def recall_latency(recall: Recall, texts: Sequence[str]) -> Report:
    """Median and 95th percentile of a recall in ms, for questions made of the diary's words."""
    times_ms = []
    for question in questions(texts):
        start = time.perf_counter()
        recall.search(LOCAL, RecallQuery(question, TOP_K))
        times_ms.append(1000 * (time.perf_counter() - start))
    percentiles = statistics.quantiles(times_ms[10:], n=100)  # the first ones warm it up
    return {
        "questions": len(times_ms),
        "p50_ms": round(percentiles[49], 1),
        "p95_ms": round(percentiles[94], 1),
    }


def questions(texts: Sequence[str]) -> list[str]:
    """Runs of consecutive words; always the same for the same diary."""
    chance = random.Random(0)
    candidates = [words for text in texts if len(words := text.split()) > WORDS_PER_QUESTION]
    runs = []
    for words in chance.choices(candidates, k=QUESTIONS):
        start = chance.randrange(len(words) - WORDS_PER_QUESTION)
        runs.append(" ".join(words[start : start + WORDS_PER_QUESTION]))
    return runs


if __name__ == "__main__":
    sys.exit(main())
