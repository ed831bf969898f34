"""How often the turn that answers a question is found, beside plain BM25 and MiniLM, in one run.

python -m services.bench.recall FILE [--out outputs/bench/recall.json]

FILE is LoCoMo's JSON: a list of conversations or one. Every session becomes an entry of a diary that is kept
as Ada's own is: ledger, chunks, vectors and words in the embedded index, recall with all of its parts.
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

from services.bench import baselines, locomo
from services.bench.locomo import CATEGORIES, Conversation, Question
from services.bench.locomo_diary import TURNS, TurnsDiary, write
from services.diary.embedding.embedder import Embedder, open_embedder
from services.diary.index.embedded.index import EdgeIndex
from services.diary.ledger.ledger import Ledger
from services.diary.recall.recall import Recall
from services.diary.settings import DiarySettings
from services.errors import AdaError, ConfigError

ADA = "Ada"
AT = (5, TURNS)
TOP_K = 6  # entries, as a chat asks for
TIMED = 200  # questions at most
Report = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a retriever found for one question: at each of AT the part of the evidence, from 0 to 1."""

    conversation: str
    category: str
    found: tuple[float, ...]


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m services.bench.recall", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("file", type=Path, nargs="?", help="LoCoMo's JSON: a list of conversations or one")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench/recall.json"))
    options = parser.parse_args()
    try:
        report = measured(_conversations(options.file), open_embedder(DiarySettings.load()))
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
    conversations = locomo.read(file)
    if not any(one.questions for one in conversations):
        raise ConfigError(f"{file} has no question with evidence")
    return conversations


def measured(conversations: Sequence[Conversation], embedder: Embedder) -> Report:
    """Every retriever by its name: recall over all questions, by category and by conversation."""
    answers: dict[str, list[Answer]] = {}
    for one in conversations:
        for name, found in baselines.scores(one, embedder).items():
            answers.setdefault(name, []).extend(_ranked_by(found, one))
    with tempfile.TemporaryDirectory(prefix="ada-bench-") as folder:
        answers[ADA], seconds = _adas(conversations, embedder, Path(folder))
    report: Report = {name: _summed_up(found) for name, found in answers.items()}
    report[ADA] |= {"p50_ms": _percentile(seconds, 50), "p95_ms": _percentile(seconds, 95)}
    return report


def _adas(
    conversations: Sequence[Conversation], embedder: Embedder, folder: Path
) -> tuple[list[Answer], list[float]]:
    """Her answers, and the seconds that recall took for each. One index holds all the diaries."""
    index = EdgeIndex(folder / "index", embedder.name, embedder.dimension)
    with Ledger(f"sqlite:///{folder}/ledger.sqlite3") as ledger, closing(index):
        diaries = []
        for number, one in enumerate(conversations):
            write(str(number), one, ledger, embedder, index)
            diaries.append(TurnsDiary(str(number), one, Recall(ledger, embedder, index)))
        asked = [
            (diary, one, q) for diary, one in zip(diaries, conversations, strict=True) for q in one.questions
        ]
        answers = [_answer(one, question, diary.ranking(question)) for diary, one, question in asked]
        return answers, [diary.seconds(question, TOP_K) for diary, _, question in asked[:TIMED]]


def _ranked_by(found: baselines.Scores, conversation: Conversation) -> list[Answer]:
    ids = [turn.id for turn in conversation.turns]
    best = (-found).argsort(axis=1, kind="stable")[:, :TURNS]
    return [
        _answer(conversation, question, [ids[place] for place in row])
        for question, row in zip(conversation.questions, best, strict=True)
    ]


def _answer(conversation: Conversation, question: Question, ranking: Sequence[str]) -> Answer:
    found = (len(question.evidence.intersection(ranking[:k])) / len(question.evidence) for k in AT)
    return Answer(conversation.name, question.category, tuple(found))


def _summed_up(answers: Sequence[Answer]) -> Report:
    return {
        **_mean(answers),
        "categories": _grouped(answers, CATEGORIES.values(), lambda one: one.category),
        "conversations": _grouped(
            answers, dict.fromkeys(one.conversation for one in answers), lambda one: one.conversation
        ),
    }


def _grouped(answers: Sequence[Answer], names: Iterable[str], name: Callable[[Answer], str]) -> Report:
    groups = {wanted: [one for one in answers if name(one) == wanted] for wanted in names}
    return {wanted: {**_mean(group), "n": len(group)} for wanted, group in groups.items() if group}


def _mean(answers: Sequence[Answer]) -> Report:
    """In percent."""
    return {
        f"recall@{k}": round(100 * statistics.fmean(one.found[place] for one in answers), 2)
        for place, k in enumerate(AT)
    }


def _percentile(seconds: Sequence[float], percent: int) -> float:
    """In milliseconds."""
    ordered = sorted(seconds)
    return round(1000 * ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 1)


def table(report: Report) -> list[str]:
    """The lines of the report: recall in percent at 5 / at 10, over all and by category and conversation."""
    first = next(iter(report.values()))
    groups = [(kind, name) for kind in ("categories", "conversations") for name in first[kind]]
    rows = [["turns found, recall@5 / @10", *report], ["all", *(map(_both, report.values()))]]
    rows += [
        [f"{name}, n={first[kind][name]['n']}", *(_both(one[kind][name]) for one in report.values())]
        for kind, name in groups
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    ada = report[ADA]
    return [
        *lines,
        f"a recall takes {ada['p50_ms']} ms, 95 of 100 at most {ada['p95_ms']} ms",
        _beside_bm25(report),
    ]


def _both(one: Report) -> str:
    return " / ".join(f"{one[f'recall@{k}']:.1f}" for k in AT)


def _beside_bm25(report: Report) -> str:
    ada, bm25 = report[ADA]["categories"], report[baselines.BM25]["categories"]
    below = [
        f"{name} at {k}" for name in ada for k in AT if ada[name][f"recall@{k}"] < bm25[name][f"recall@{k}"]
    ]
    return f"below BM25: {', '.join(below)}" if below else "below BM25 in no category"


if __name__ == "__main__":
    sys.exit(main())
