"""How long a whole diary takes from the file to being searchable, and how fast it is searched then.

    python -m services.bench.ingest FILE [--out outputs/bench/ingest.json] [--chunks 100000]

FILE is JSON Lines of {"date", "text"}; a row without a date is taken as any import takes it, and gets the day
of writing. The file goes the way of a user's: over HTTP into a house as `make serve` keeps it, in a folder of
its own. Linux only.
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
from services.diary.ledger.ledger import EntryFilter, Ledger
from services.diary.recall.query import RecallQuery
from services.diary.recall.recall import Recall
from services.diary.settings import DiarySettings

QUESTIONS, WORDS_A_QUESTION = 500, 8
TOP_K = 6  # as a chat asks
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
    """The whole measurement, told as it goes on."""
    settings = environment(folder)
    report: Report = {"file": file.name, "cores": os.cpu_count()}
    with all_in_one_server(folder, settings) as server:
        told(report, taken_in(server, file))
        told(report, {"peak_mb": server.peaks_mb(), "peak_mb_in_all": sum(server.peaks_mb().values())})
    with opened(settings) as diary:
        texts = [entry.text for entry in diary.ledger.for_owner(LOCAL).iter_entries(EntryFilter())]
        words = sum(len(text.split()) for text in texts)
        told(report, {"words": words, "words_per_s": round(words / report["searchable_s"])})
        told(report, {"chunks": diary.index.count(), "recall": asked(diary.recall, texts)})
        if chunks > diary.index.count():
            fill(diary.ledger, LOCAL, diary.index, diary.embedder, texts, chunks)
            told(report, {"filled_to": diary.index.count(), "recall_filled": asked(diary.recall, texts)})
    return report


def told(report: Report, more: Report) -> None:
    """Print what was found, and keep it."""
    for name, value in more.items():
        print(f"{name:>16}  {value}", flush=True)
    report |= more


def taken_in(server: AllInOneServer, file: Path, headers: dict[str, str] | None = None) -> Report:
    """Import the file over HTTP and wait until the worker has written all of it into the index."""
    began, used = time.monotonic(), server.cpu_s()
    direct = httpx.Client(base_url=server.url, timeout=600, headers=headers, trust_env=False)
    with direct as client, file.open("rb") as body:
        answer = client.post("/v1/diary/import", params={"name": file.name}, content=body)
        answer.raise_for_status()
        accepted_s = time.monotonic() - began
        report = answer.json()
        while report["queued"]:
            time.sleep(0.2)
            report = client.get(f"/v1/diary/imports/{report['import_id']}").json()
    searchable_s = time.monotonic() - began
    return {
        "accepted": report["accepted"],
        "duplicates": report["duplicates"],
        "rejected": report["rejected_count"],
        "undated": report["undated"],
        "failed": report["failed"],
        "accepted_s": round(accepted_s, 1),
        "searchable_s": round(searchable_s, 1),
        "cpu_s": round(server.cpu_s() - used, 1),
        "entries_per_s": round(report["indexed"] / searchable_s, 1),
    }


@dataclass(frozen=True)
class Diary:
    """The same diary in this process, when its house has ended."""

    ledger: Ledger
    index: IndexEngine
    embedder: Embedder
    recall: Recall


@contextmanager
def opened(settings: dict[str, str]) -> Iterator[Diary]:
    """Ledger, index and embedder as the house had them."""
    embedder = open_embedder(DiarySettings.load())
    index = EdgeIndex(Path(settings["INDEX_PATH"]), embedder.name, embedder.dimension)
    with Ledger(settings["LEDGER_URL"]) as ledger:
        yield Diary(ledger, index, embedder, Recall(ledger, embedder, index))
    index.close()


def asked(recall: Recall, texts: Sequence[str]) -> Report:
    """Milliseconds of a recall, embedding included, over questions made of the diary's own words."""
    took = []
    for question in questions(texts):
        began = time.perf_counter()
        recall.search(LOCAL, RecallQuery(question, TOP_K))
        took.append(1000 * (time.perf_counter() - began))
    hundredths = statistics.quantiles(took[10:], n=100)  # without those that warm it up
    return {"questions": len(took), "p50_ms": round(hundredths[49], 1), "p95_ms": round(hundredths[94], 1)}


def questions(texts: Sequence[str]) -> list[str]:
    """Runs of words, the same ones for the same diary."""
    chance = random.Random(0)
    spoken = [words for text in texts if len(words := text.split()) > WORDS_A_QUESTION]
    runs = []
    for words in chance.choices(spoken, k=QUESTIONS):
        start = chance.randrange(len(words) - WORDS_A_QUESTION)
        runs.append(" ".join(words[start : start + WORDS_A_QUESTION]))
    return runs


if __name__ == "__main__":
    sys.exit(main())
