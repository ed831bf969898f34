"""Measures recall: how often the turns that answer a question are found, compared with BM25 and MiniLM.

    python -m services.bench.recall FILE [--out outputs/bench/recall.json]

FILE is LoCoMo's JSON: a list of conversations or one. Every session becomes an entry of a diary like Ada's
own: ledger, chunks with both vectors in the embedded index, and recall with all of its parts.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from services.bench import baselines, locomo
from services.bench.locomo import CATEGORIES, Conversation, Question
from services.bench.locomo_diary import TOP_TURNS, TurnsDiary, write
from services.diary.embedding.embedder import Embedder, open_embedder
from services.diary.index.embedded.index import EdgeIndex
from services.diary.ledger.ledger import Ledger
from services.diary.recall.recall import Recall
from services.diary.settings import DiarySettings
from services.errors import AdaError, ConfigError

ADA = "Ada"
CUTOFFS = (5, TOP_TURNS)  # k of recall@k
TOP_K = 6  # entries, as a chat asks for
MAX_TIMED_QUESTIONS = 200
Report = dict[str, Any]


@dataclass(frozen=True)
class QuestionResult:
    """A retriever's result for one question: recall at each of CUTOFFS, from 0 to 1."""

    conversation: str
    category: str
    recall: tuple[float, ...]


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m services.bench.recall", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("file", type=Path, nargs="?", help="LoCoMo's JSON: a list of conversations or one")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench/recall.json"))
    options = parser.parse_args()
    try:
        report = measure(_conversations(options.file), open_embedder(DiarySettings.load()))
    except AdaError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(table(report)))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written to {options.out}")
    return 0


def _conversations(file: Path | None) -> list[Conversation]:
    if file is None:
        raise ConfigError("name a LoCoMo file: make bench-recall FILE=locomo10.json")
    conversations = locomo.load(file)
    if not any(conversation.questions for conversation in conversations):
        raise ConfigError(f"{file} has no question with evidence")
    return conversations


def measure(conversations: Sequence[Conversation], embedder: Embedder) -> Report:
    """The recall of every retriever by its name: over all questions, by category and by conversation."""
    results: dict[str, list[QuestionResult]] = {}
    for conversation in conversations:
        for name, scores in baselines.scores(conversation, embedder).items():
            results.setdefault(name, []).extend(_baseline_results(scores, conversation))
    with tempfile.TemporaryDirectory(prefix="ada-bench-") as folder:
        results[ADA], seconds = _ada_results(conversations, embedder, Path(folder))
    report: Report = {name: _summary(of_retriever) for name, of_retriever in results.items()}
    report[ADA] |= {"p50_ms": _percentile_ms(seconds, 50), "p95_ms": _percentile_ms(seconds, 95)}
    return report


def _ada_results(
    conversations: Sequence[Conversation], embedder: Embedder, folder: Path
) -> tuple[list[QuestionResult], list[float]]:
    """Ada's results, and the seconds that recall took. One index holds all diaries."""
    index = EdgeIndex(folder / "index", embedder.name, embedder.dimension)
    with Ledger(f"sqlite:///{folder}/ledger.sqlite3") as ledger, closing(index):
        diaries = []
        for number, conversation in enumerate(conversations):
            write(str(number), conversation, ledger, embedder, index)
            diaries.append(TurnsDiary(str(number), conversation, Recall(ledger, embedder, index)))
        questions = [
            (diary, conversation, question)
            for diary, conversation in zip(diaries, conversations, strict=True)
            for question in conversation.questions
        ]
        results = [
            _result(conversation, question, diary.ranking(question))
            for diary, conversation, question in questions
        ]
        timed = questions[:MAX_TIMED_QUESTIONS]
        return results, [diary.seconds(question, TOP_K) for diary, _, question in timed]


def _baseline_results(scores: baselines.Scores, conversation: Conversation) -> list[QuestionResult]:
    ids = [turn.id for turn in conversation.turns]
    best = (-scores).argsort(axis=1, kind="stable")[:, :TOP_TURNS]
    return [
        _result(conversation, question, [ids[column] for column in row])
        for question, row in zip(conversation.questions, best, strict=True)
    ]


def _result(conversation: Conversation, question: Question, ranking: Sequence[str]) -> QuestionResult:
    recall = (len(question.evidence.intersection(ranking[:k])) / len(question.evidence) for k in CUTOFFS)
    return QuestionResult(conversation.name, question.category, tuple(recall))


def _summary(results: Sequence[QuestionResult]) -> Report:
    conversations = dict.fromkeys(result.conversation for result in results)
    return {
        **_mean(results),
        "categories": _by_group(results, CATEGORIES.values(), lambda result: result.category),
        "conversations": _by_group(results, conversations, lambda result: result.conversation),
    }


def _by_group(
    results: Sequence[QuestionResult], names: Iterable[str], name: Callable[[QuestionResult], str]
) -> Report:
    groups = {group: [result for result in results if name(result) == group] for group in names}
    return {group: {**_mean(members), "n": len(members)} for group, members in groups.items() if members}


def _mean(results: Sequence[QuestionResult]) -> Report:
    """In percent."""
    return {
        f"recall@{k}": round(100 * statistics.fmean(result.recall[column] for result in results), 2)
        for column, k in enumerate(CUTOFFS)
    }


def _percentile_ms(seconds: Sequence[float], percent: int) -> float:
    ordered = sorted(seconds)
    return round(1000 * ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 1)


def table(report: Report) -> list[str]:
    """The lines of the report: recall in percent at 5 / at 10, over all, by category and by conversation."""
    first = next(iter(report.values()))
    groups = [(kind, name) for kind in ("categories", "conversations") for name in first[kind]]
    rows = [["turns found, recall@5 / @10", *report], ["all", *map(_format, report.values())]]
    rows += [
        [
            f"{name}, n={first[kind][name]['n']}",
            *(_format(retriever[kind][name]) for retriever in report.values()),
        ]
        for kind, name in groups
    ]
    ada = report[ADA]
    return [
        *tabulate(rows, tablefmt="plain", stralign="right", disable_numparse=True).splitlines(),
        f"a recall takes {ada['p50_ms']} ms, 95 of 100 at most {ada['p95_ms']} ms",
        _below_bm25(report),
    ]


def _format(row: Report) -> str:
    return " / ".join(f"{row[f'recall@{k}']:.1f}" for k in CUTOFFS)


def _below_bm25(report: Report) -> str:
    ada, bm25 = report[ADA]["categories"], report[baselines.BM25]["categories"]
    below = [
        f"{name} at {k}"
        for name in ada
        for k in CUTOFFS
        if ada[name][f"recall@{k}"] < bm25[name][f"recall@{k}"]
    ]
    return f"below BM25: {', '.join(below)}" if below else "below BM25 in no category"


if __name__ == "__main__":
    sys.exit(main())
