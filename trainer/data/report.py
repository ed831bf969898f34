"""A report on the mixture before training: what becomes of each source, and what Ada would learn.

python -m trainer.data.report --config trainer/configs/bare.yaml [name=value ...]

Writes into `data/` next to the runs: mixture.txt (the table), mixture.json (all numbers) and samples.html
(some samples as the model sees them).
"""

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path

import jinja2

from services.errors import AdaError, ConfigError
from services.persona.base_model import model_cache
from trainer.config import TrainingConfig, load_config, origin
from trainer.data.inspection import Encoder, Lengths, histogram, measure, summary
from trainer.data.mixture import Mixture, check_sources, mix
from trainer.data.report_table import cells, left_out, shares_of, shares_warning, table, total
from trainer.data.sample import Sample
from trainer.log import log, setup_console

EXAMPLES = 24  # on the page
PAGE = Path(__file__).with_name("data_page.html.jinja")


def main() -> int:
    """Entry point; a user's mistake is one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.data.report", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--config", type=Path, help="a YAML file, see trainer/configs/")
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="for example target_size=1000")
    arguments = parser.parse_args()
    cache = model_cache(os.environ)
    setup_console()
    try:
        config = load_config(arguments.config, arguments.overrides)
        log.info("configuration: %s", origin(arguments.config, arguments.overrides))
        folder = report(config, cache)
    except AdaError as error:
        log.error("trainer: %s", error)
        return 2
    except KeyboardInterrupt:
        log.error("trainer: interrupted")
        return 130
    log.info("saved in %s: mixture.txt, mixture.json, and samples.html to look at", folder)
    return 0


def report(config: TrainingConfig, cache: Path) -> Path:
    """Make and encode the mixture, log and write the report; returns its folder.

    Raises ConfigError as `mix` does, and when the base model can't be loaded or the folder can't be written.
    """
    check_sources(config)
    encoder = Encoder(config, cache)  # a missing model is reported before minutes are spent on the mixture
    mixture = mix(config)
    started = time.monotonic()
    lengths = measure([*mixture.train, *mixture.eval], encoder)
    seconds = {**mixture.seconds, "encode": time.monotonic() - started}
    text = table(mixture, lengths)
    durations = ", ".join(f"{stage} {duration:.1f}" for stage, duration in seconds.items())
    log.info("%s\n\nseconds: %s", text, durations)
    files = {
        "mixture.txt": f"{text}\n",
        "mixture.json": json.dumps(numbers(config, mixture, lengths, seconds), indent=2) + "\n",
        "samples.html": page(config, mixture, lengths, encoder),
    }
    return _save(config.output_dir.parent / "data", files)


def _save(folder: Path, files: dict[str, str]) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"output_dir: can't write to {folder} ({error.strerror})") from None
    return folder


def numbers(
    config: TrainingConfig, mixture: Mixture, lengths: Lengths, seconds: dict[str, float]
) -> dict[str, object]:
    """The content of mixture.json."""
    shares = shares_of(mixture)
    return {
        "sources": {
            source: {
                **stats,
                **summary(lengths.of_source(source)),
                **dict(zip(("share_asked", "share_reached"), shares[source], strict=True)),
            }
            for source, stats in mixture.source_stats.items()
        },
        "total": {**total(mixture), **summary(lengths.total)},
        "missing": mixture.missing,
        "cut": dict(lengths.shortened),
        "histogram": [
            {"from": first, "to": last, "samples": count} for first, last, count in histogram(lengths.total)
        ],
        "seconds": {stage: round(duration, 2) for stage, duration in seconds.items()},
        "config": config.model_dump(mode="json"),
    }


def page(config: TrainingConfig, mixture: Mixture, lengths: Lengths, encoder: Encoder) -> str:
    """A self-contained HTML page: the table, and some samples as the model sees them."""
    template = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(PAGE.read_text(encoding="utf-8"))
    return template.render(
        name=encoder.persona.assistant_name,
        model=config.model_name,
        seed=config.seed,
        cells=cells(mixture, lengths),
        source_stats=mixture.source_stats,
        left_out=[*filter(None, [shares_warning(mixture)]), *left_out(mixture)],
        shortened=lengths.shortened,
        histogram=histogram(lengths.total),
        examples=[_example(sample, encoder) for sample in examples(mixture.train, config.seed)],
    )


def examples(samples: list[Sample], seed: int) -> list[Sample]:
    """Random samples, equally many of each source; the first of each has a diary block, if any has one."""
    rng = random.Random(seed)
    sources = sorted({sample.source for sample in samples})
    chosen: list[Sample] = []
    for source in sources:
        different = {sample.origin: sample for sample in samples if sample.source == source}
        of_source = list(different.values())
        rng.shuffle(of_source)
        of_source.sort(key=lambda sample: not sample.recalled)
        first, *others = of_source
        wanted = -(-EXAMPLES // len(sources)) - 1
        chosen += [first, *rng.sample(others, min(wanted, len(others)))]
    return chosen[:EXAMPLES]


def _example(sample: Sample, encoder: Encoder) -> dict[str, object]:
    rows, shortened = encoder.encode([sample])
    turns = [turn for row in rows for turn in encoder.turns(row["input_ids"], row["labels"])]
    return {
        "sample": sample,
        "turns": turns,
        "tokens": sum(len(ids) for ids in rows["input_ids"]),
        "shortened": list(shortened),
    }


if __name__ == "__main__":
    sys.exit(main())
