"""Look at the mixture before training on it: what becomes of each source, and what Ada would learn.

python -m trainer.data.report --config trainer/configs/bare.yaml [name=value ...]

Writes into `data/` beside the runs: mixture.txt (the table), mixture.json (all numbers) and samples.html (to
look at).
"""

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import jinja2
import numpy as np

from services.chat_markup import IM_END, IM_START
from services.errors import AdaError, ConfigError
from services.persona.base_model import DEFAULT_MODEL_CACHE
from services.persona.persona import load_persona
from services.persona.template import template_for
from trainer.config import TrainingConfig, load_config, origin
from trainer.data.mixture import Mixture, check_sources, mix
from trainer.data.sample import Sample
from trainer.log import log, speak

AT_ONCE = 1_000  # samples encoded before their tokens are let go of
EXAMPLES = 24  # on the page
BARS, BAR = 16, 48  # a histogram's bars at most, and the characters of its longest
PAGE = Path(__file__).with_name("data_page.html.jinja")
SHARES = ("share asked", "share reached")
TOLERATED = 0.03  # a difference in shares that needs no word: small mixtures don't divide evenly
COUNTS = ("asked", "read", "kept", "used", "repeated", "held_out", "short")


def main() -> int:
    """Entry point; a mistake of the user's is one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.data.report", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--config", type=Path, help="a YAML file, see trainer/configs/")
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="for example target_size=1000")
    arguments = parser.parse_args()
    cache = Path(os.environ.get("ADA_MODEL_CACHE", DEFAULT_MODEL_CACHE)).absolute()
    speak()
    try:
        config = load_config(arguments.config, arguments.overrides)
        log.info("configuration: %s", origin(arguments.config, arguments.overrides))
        folder = look(config, cache)
    except AdaError as error:
        log.error("trainer: %s", error)
        return 2
    except KeyboardInterrupt:
        log.error("trainer: interrupted")
        return 130
    log.info("saved in %s: mixture.txt, mixture.json, and samples.html to look at", folder)
    return 0


def look(config: TrainingConfig, cache: Path) -> Path:
    """Mix, encode, say what came of it and save that; returns the folder.

    Raises ConfigError as mix does, for a base model that can't be had and a folder that can't be written.
    """
    check_sources(config)
    encoder = Encoder(
        config, cache
    )  # a model that can't be had is told before minutes are spent on the mixture
    mixture = mix(config)
    started = time.monotonic()
    lengths = measure([*mixture.taught, *mixture.held_out], encoder)
    seconds = {**mixture.seconds, "encode": time.monotonic() - started}
    report = table(mixture, lengths)
    took = ", ".join(f"{part} {time:.1f}" for part, time in seconds.items())
    log.info("%s\n\nseconds: %s", report, took)
    saved = {
        "mixture.txt": f"{report}\n",
        "mixture.json": json.dumps(numbers(config, mixture, lengths, seconds), indent=2) + "\n",
        "samples.html": page(config, mixture, lengths, encoder),
    }
    return _save(config.output_dir.parent / "data", saved)


def _save(folder: Path, files: dict[str, str]) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"output_dir: can't write to {folder} ({error.strerror})") from None
    return folder


# What the model is shown


@dataclass(frozen=True)
class AnswerStats:
    """One turn as the model is shown it: what is given, what carries loss, and whether its end does."""

    speaker: str
    given: str
    learned: str
    learns_to_stop: bool


class Encoder:
    """Turns samples into tokens, and tokens into what a person can read.

    Raises ConfigError for a base model or a persona that can't be had.
    """

    def __init__(self, config: TrainingConfig, cache: Path) -> None:
        # torch and transformers take seconds to import: a mistake in the data is told before that.
        from trainer import base_model
        from trainer.data import tokens

        self._encode, self._no_loss = tokens.encode, tokens.NO_LOSS
        self.persona = load_persona(config.persona)
        self.template, self.max_tokens = template_for(self.persona), config.max_seq_length
        self.tokenizer = base_model.load_tokenizer(base_model.prepare(config.model_name, cache))

    def encode(self, samples: list[Sample]) -> tuple[Iterable[dict[str, object]], Counter[str]]:
        """Rows of `input_ids`, `labels` and `source`, and what had to be cut."""
        return self._encode(samples, self.persona, self.tokenizer, self.template, self.max_tokens)

    def turns(self, input_ids: list[int], labels: list[int]) -> Iterator[AnswerStats]:
        """A row's turns, taken apart at the marks that no text can write."""
        ids, labels = np.asarray(input_ids), np.asarray(labels)
        start = self.tokenizer.convert_tokens_to_ids(IM_START)
        borders = [*np.flatnonzero(ids == start), len(ids)]
        for here, there in pairwise(borders):
            learned = labels[here:there] != self._no_loss
            speaker, _, given = self.tokenizer.decode(ids[here + 1 : there][~learned[1:]]).partition("\n")
            said = self.tokenizer.decode(ids[here:there][learned])
            yield AnswerStats(
                speaker, given.strip().removesuffix(IM_END), said.removesuffix(IM_END), said.endswith(IM_END)
            )


@dataclass(frozen=True)
class Lengths:
    """Tokens a sample, by source, and how often what had to be cut to fit max_seq_length."""

    by_source: dict[str, list[int]]
    cut: Counter[str]

    def of(self, source: str | None) -> list[int]:
        """One source's, or all."""
        chosen = self.by_source.values() if source is None else [self.by_source.get(source, [])]
        return [length for lengths in chosen for length in lengths]


def measure(samples: list[Sample], encoder: Encoder) -> Lengths:
    """Encode all samples, some at a time: the tokens themselves are not kept."""
    lengths = Lengths({}, Counter())
    for start in range(0, len(samples), AT_ONCE):
        rows, cut = encoder.encode(samples[start : start + AT_ONCE])
        lengths.cut.update(cut)
        for source, ids in zip(rows["source"], rows["input_ids"], strict=True):
            lengths.by_source.setdefault(source, []).append(len(ids))
    return lengths


def summary(lengths: list[int]) -> dict[str, int]:
    """Tokens in all, and of a sample: the median, what nine of ten stay below, the longest."""
    if not lengths:
        return {"tokens": 0, "median": 0, "p90": 0, "longest": 0}
    median, p90 = np.percentile(lengths, [50, 90]).round().astype(int).tolist()
    return {"tokens": sum(lengths), "median": median, "p90": p90, "longest": max(lengths)}


def histogram(lengths: list[int]) -> list[tuple[int, int, int]]:
    """(from, to, samples) in steps of a power of two."""
    shortest, longest, step = min(lengths, default=0), max(lengths, default=0), 8
    while longest // step - shortest // step >= BARS:
        step *= 2
    counts = Counter(length // step for length in lengths)
    bars = range(shortest // step, longest // step + 1)
    return [(bar * step, bar * step + step - 1, counts[bar]) for bar in bars]


# What is told


def table(mixture: Mixture, lengths: Lengths | None = None) -> str:
    """The account as plain text: a line a source, then what was left out and why, then tokens."""
    parts = [_aligned(cells(mixture, lengths)), shares_part(mixture), *_left_out(mixture)]
    if lengths:
        parts += [_cut(lengths), _bars(lengths.of(None))]
    return "\n\n".join(part for part in parts if part)


def cells(mixture: Mixture, lengths: Lengths | None = None) -> list[list[str]]:
    """The table's cells: a header, a row a source, and their total."""
    rows, shares = [], {**shares_of(mixture), "total": (1.0, 1.0)}
    for source, share in [*mixture.account.items(), ("total", _total(mixture))]:
        numbers = [share[name] for name in COUNTS]
        if lengths:
            *numbers_of_tokens, _ = summary(lengths.of(None if source == "total" else source)).values()
            numbers += numbers_of_tokens
        asked, reached = shares[source]
        rows.append([source, *(f"{number:,}" for number in numbers), f"{asked:.0%}", f"{reached:.0%}"])
    tokens = ["tokens", "median", "p90"] if lengths else []
    return [["source", *(name.replace("_", " ") for name in COUNTS), *tokens, *SHARES], *rows]


def shares_of(mixture: Mixture) -> dict[str, tuple[float, float]]:
    """Source → its share of what was asked for, and of what there is."""
    total = _total(mixture)
    return {
        source: (share["asked"] / max(1, total["asked"]), share["used"] / max(1, total["used"]))
        for source, share in mixture.account.items()
    }


def shares_part(mixture: Mixture) -> str:
    """Where the mixture is another than the one asked for: by how much, and what would mend it."""
    parted = {
        source: (asked, reached)
        for source, (asked, reached) in shares_of(mixture).items()
        if abs(asked - reached) > TOLERATED
    }
    if not parted:
        return ""
    told = ", ".join(f"{source} {reached:.0%} for {asked:.0%}" for source, (asked, reached) in parted.items())
    reachable = min(
        (int(share["used"] / asked) for share, (asked, _) in _with_shares(mixture) if share["short"] > 0),
        default=0,
    )
    smaller = f"target_size={reachable} or " if reachable else ""
    return (
        f"WARNING: this is not the mixture that was asked for: {told}. Bring more of what is short, or set "
        f"{smaller}a higher max_repeats"
    )


def _with_shares(mixture: Mixture) -> Iterator[tuple[dict[str, object], tuple[float, float]]]:
    shares = shares_of(mixture)
    return ((share, shares[source]) for source, share in mixture.account.items())


def _total(mixture: Mixture) -> dict[str, int]:
    return {name: sum(share[name] for share in mixture.account.values()) for name in COUNTS}


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *numbers in rows:
        right = (number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True))
        lines.append("  ".join([name.ljust(widths[0]), *right]))
    return "\n".join(lines)


def _left_out(mixture: Mixture) -> Iterator[str]:
    """What Ada does not learn from, by source and reason."""
    if mixture.missing:
        yield f"missing: {', '.join(mixture.missing)}; the others share what was asked of them"
    dropped = {source: share["dropped"] for source, share in mixture.account.items() if share["dropped"]}
    if dropped:
        lines = [f"  {source}: {_counted(reasons)}" for source, reasons in dropped.items()]
        yield "\n".join(["left out", *lines])
    bad = [message for share in mixture.account.values() for message in share["bad_rows"]]
    if bad:
        yield "\n".join(["bad rows, the first of each source", *(f"  {message}" for message in bad)])


def _cut(lengths: Lengths) -> str:
    return f"cut to fit max_seq_length: {_counted(lengths.cut)}" if lengths.cut else ""


def _counted(reasons: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())


def _bars(lengths: list[int]) -> str:
    bars = histogram(lengths)
    most = max(count for *_, count in bars) or 1
    edge, width = len(str(bars[-1][1])), len(f"{most:,}")
    lines = [
        f"  {first:>{edge}} to {last:>{edge}}  {count:>{width},}  {'█' * -(-count * BAR // most)}".rstrip()
        for first, last, count in bars
    ]
    return "\n".join(["samples by length in tokens", *lines])


def numbers(
    config: TrainingConfig, mixture: Mixture, lengths: Lengths, seconds: dict[str, float]
) -> dict[str, object]:
    """All that is known of the mixture, as JSON takes it."""
    shares = shares_of(mixture)
    return {
        "sources": {
            source: {
                **share,
                **summary(lengths.of(source)),
                **dict(zip(("share_asked", "share_reached"), shares[source], strict=True)),
            }
            for source, share in mixture.account.items()
        },
        "total": {**_total(mixture), **summary(lengths.of(None))},
        "missing": mixture.missing,
        "cut": dict(lengths.cut),
        "histogram": [
            {"from": first, "to": last, "samples": count}
            for first, last, count in histogram(lengths.of(None))
        ],
        "seconds": {part: round(took, 2) for part, took in seconds.items()},
        "config": config.model_dump(mode="json"),
    }


# The page


def page(config: TrainingConfig, mixture: Mixture, lengths: Lengths, encoder: Encoder) -> str:
    """A page of HTML that needs nothing else: the account, and some samples as the model is shown them."""
    template = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(PAGE.read_text(encoding="utf-8"))
    return template.render(
        name=encoder.persona.assistant_name,
        model=config.model_name,
        seed=config.seed,
        cells=cells(mixture, lengths),
        account=mixture.account,
        left_out=[*filter(None, [shares_part(mixture)]), *_left_out(mixture)],
        cut=lengths.cut,
        histogram=histogram(lengths.of(None)),
        examples=[_example(sample, encoder) for sample in examples(mixture.taught, config.seed)],
    )


def examples(samples: list[Sample], seed: int) -> list[Sample]:
    """Samples by chance, as many of each source; the first of each has a diary block, if one has."""
    chance = random.Random(seed)
    sources = sorted({sample.source for sample in samples})
    chosen = []
    for source in sources:
        different = {sample.origin: sample for sample in samples if sample.source == source}
        of_source = list(different.values())
        chance.shuffle(of_source)
        of_source.sort(key=lambda sample: not sample.recalled)
        first, *others = of_source
        wanted = -(-EXAMPLES // len(sources)) - 1
        chosen += [first, *chance.sample(others, min(wanted, len(others)))]
    return chosen[:EXAMPLES]


def _example(sample: Sample, encoder: Encoder) -> dict[str, object]:
    rows, cut = encoder.encode([sample])
    turns = [said for row in rows for said in encoder.turns(row["input_ids"], row["labels"])]
    return {
        "sample": sample,
        "turns": turns,
        "tokens": sum(len(ids) for ids in rows["input_ids"]),
        "cut": list(cut),
    }


if __name__ == "__main__":
    sys.exit(main())
