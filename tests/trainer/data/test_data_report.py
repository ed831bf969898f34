"""`make data`: the table, the numbers, and the page that shows samples as the model is shown them.

.venv/bin/python -m pytest tests/trainer/data/test_data_report.py
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import ConfigError
from services.persona.persona import load_persona
from services.persona.prompt import build_messages
from services.process.cpu_count import available_cpus
from trainer.config import TrainingConfig
from trainer.data.inspection import MAX_BARS, Encoder, Lengths, histogram, measure, summary
from trainer.data.mixture import Mixture, mix
from trainer.data.report import EXAMPLES, examples, page, report
from trainer.data.report_table import shares_warning, table
from trainer.data.sample import Sample, alternating_turns, make_sample

ROOT = Path(__file__).parents[3]
MODEL_CACHE = ROOT / ".cache" / "models"
SOURCES = ["hippocorpus", "journals", "reddit", "conversations"]


@pytest.fixture
def config(write_sources, smollm2_location: str, tmp_path: Path) -> TrainingConfig:
    """Forty samples, each with a diary block, on SmolLM2's tokenizer."""
    return TrainingConfig(
        **write_sources(tmp_path / "data"),
        model_name=smollm2_location,
        output_dir=tmp_path / "outputs" / "ada_model",
        target_size=40,
        eval_size=8,
        diary_share=1,
        max_seq_length=512,
    )


@pytest.fixture
def encoder(config) -> Encoder:
    return Encoder(config, MODEL_CACHE)


class Page(HTMLParser):
    """What a browser would find: text by the class of its element, and every resource that it would fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.fetched: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.fetched += [f"{name}={value}" for name, value in values.items() if name in ("src", "href")]
        self.fetched += [tag] if tag in ("script", "link", "iframe") else []
        if tag != "meta":
            self.open.append(values.get("class") or tag)

    def handle_endtag(self, tag: str) -> None:
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1], data))

    def under(self, name: str) -> list[str]:
        return [text for around, text in self.texts if around == name]


# The whole command


def test_the_table_the_numbers_and_the_page_are_saved_next_to_the_runs(
    config, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    folder = report(config, MODEL_CACHE)
    assert folder == config.output_dir.parent / "data"
    assert {file.name for file in folder.iterdir()} == {"mixture.txt", "mixture.json", "samples.html"}
    assert (folder / "mixture.txt").read_text().strip() in caplog.text

    numbers = json.loads((folder / "mixture.json").read_text())
    assert list(numbers["sources"]) == SOURCES
    for name in ("asked", "read", "kept", "used", "tokens"):
        assert numbers["total"][name] == sum(source[name] for source in numbers["sources"].values())
    assert numbers["total"]["used"] == sum(bar["samples"] for bar in numbers["histogram"]) == 40
    assert set(numbers["seconds"]) == {"read", "clean", "tell", "encode"}
    assert numbers["config"]["target_size"] == 40


def test_a_mistake_is_one_line_and_leaves_nothing_before_torch_is_imported(config):
    config.reddit_path.unlink()
    names = ("hippocorpus_path", "journal_path", "reddit_path", "generated_data_path", "output_dir")
    overrides = [f"{name}={getattr(config, name)}" for name in names]
    program = "import sys; from trainer.data.report import main; print(main(), 'torch' in sys.modules)"
    command = [sys.executable, "-c", program, *overrides]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    configuration, outcome = result.stdout.splitlines()
    assert configuration == f"configuration: defaults, and {', '.join(overrides)}"
    assert outcome == "2 False"
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"trainer: no file {config.reddit_path}. ")
    assert not config.output_dir.parent.exists()


@pytest.mark.skipif(available_cpus() < 2, reason="one core cleans without processes")
def test_an_interrupt_while_processes_clean_is_one_line(write_sources, smollm2_location: str, tmp_path: Path):
    files = write_sources(tmp_path, hippocorpus=2_100)
    overrides = [
        f"hippocorpus_path={files['hippocorpus_path']}",
        "hippocorpus_ratio=1",
        f"output_dir={tmp_path / 'x'}",
        f"model_name={smollm2_location}",
    ]
    overrides += ["journal_ratio=0", "reddit_ratio=0", "generated_ratio=0"]
    command = [sys.executable, "-m", "trainer.data.report", *overrides]
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            started = psutil.Process(process.pid)
            while len(cleaning := started.children()) < 3 and process.poll() is None:  # and their tracker
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, stderr) == (130, "trainer: interrupted\n")
    assert psutil.wait_procs(cleaning, timeout=10)[1] == []


def test_a_folder_that_cannot_be_written_is_named(config):
    config.output_dir.parent.write_text("a file")
    with pytest.raises(ConfigError, match=f"output_dir: can't write to {config.output_dir.parent / 'data'}"):
        report(config, MODEL_CACHE)


# The table


def stats(**counts: object) -> dict[str, object]:
    zero = dict.fromkeys(("asked", "read", "kept", "used", "repeated", "held_out", "short"), 0)
    return {**zero, "dropped": {}, "bad_rows": [], **counts}


def test_the_table_has_aligned_columns_for_each_source():
    source_stats = {
        "hippocorpus": stats(
            asked=12_000, read=6_854, used=12_000, dropped={"not en": 3, "too short": 1_200}
        ),
        "reddit": stats(asked=6_000, short=77, bad_rows=["posts.jsonl, line 3: field 'title' must be text."]),
    }
    lengths = Lengths(
        {"hippocorpus": [100] * 9 + [300], "reddit": [2_000]}, Counter({"last turns left out": 4})
    )
    text = table(Mixture([], [], source_stats, ["journals"]), lengths)
    assert text.startswith(
        "source        asked   read  kept    used  repeated  held out  short  tokens  median    p90"
        "  share asked  share reached\n"
        "hippocorpus  12,000  6,854     0  12,000         0         0      0   1,200     100    120"
        "          67%           100%\n"
        "reddit        6,000      0     0       0         0         0     77   2,000   2,000  2,000"
        "          33%             0%\n"
        "total        18,000  6,854     0  12,000         0         0     77   3,200     100    300"
        "         100%           100%\n"
        "\n"
        "WARNING: this is not the mixture that was asked for: hippocorpus 100% for 67%, reddit 0% for 33%. "
        "Bring more of what is short, or set a higher max_repeats\n"
        "\n"
        "missing: journals; the others share what was asked of them\n"
        "\n"
        "left out\n"
        "  hippocorpus: not en 3, too short 1,200\n"
        "\n"
        "bad rows, the first of each source\n"
        "  posts.jsonl, line 3: field 'title' must be text.\n"
        "\n"
        "cut to fit max_seq_length: last turns left out 4\n"
        "\n"
        "samples by length in tokens\n"
    )


def test_shares_that_miss_the_ratios_are_reported_with_the_size_that_would_meet_them():
    """57/29/7/7 for 40/20/20/20."""
    used = {"hippocorpus": 400, "journals": 200, "reddit": 50, "conversations": 50}
    requested = {"hippocorpus": 400, "journals": 200, "reddit": 200, "conversations": 200}
    source_stats = {
        name: stats(asked=requested[name], used=used[name], short=requested[name] - used[name])
        for name in used
    }
    mixture = Mixture([], [], source_stats, [])
    (row,) = [line for line in table(mixture).splitlines() if line.startswith("hippocorpus")]
    assert row.split()[-2:] == ["40%", "57%"]
    warning = shares_warning(mixture)
    assert (
        "hippocorpus 57% for 40%, journals 29% for 20%, reddit 7% for 20%, conversations 7% for 20%"
        in warning
    )
    assert "target_size=250" in warning
    as_requested = {name: stats(asked=count, used=count) for name, count in requested.items()}
    assert shares_warning(Mixture([], [], as_requested, [])) == ""


def test_before_anything_is_encoded_the_table_is_without_tokens(config):
    text = table(mix(config))
    assert len(text.splitlines()) == 6
    assert len({len(line) for line in text.splitlines()}) == 1
    assert "tokens" not in text


@given(st.lists(st.integers(1, 40_000), min_size=1))
def test_a_histogram_has_every_sample_in_one_of_a_few_bars_without_gaps(lengths: list[int]):
    bars = histogram(lengths)
    assert len(bars) <= MAX_BARS
    assert sum(count for *_, count in bars) == len(lengths)
    assert all(sum(first <= length <= last for length in lengths) == count for first, last, count in bars)
    assert all(bar[1] + 1 == following[0] for bar, following in pairwise(bars))
    assert bars[0][2]
    assert bars[-1][2]
    assert len(bars) > MAX_BARS // 2 or bars[0][1] - bars[0][0] == 7


def test_a_source_without_a_fitting_sample_has_no_tokens():
    assert summary([]) == {"tokens": 0, "median": 0, "p90": 0, "longest": 0}
    mixture = Mixture([], [], {"reddit": stats(asked=1)})
    assert "reddit" in table(mixture, Lengths({}, Counter({"longer than max_seq_length": 1})))


def test_shortened_samples_are_counted_over_all_batches(config, encoder):
    mixture = mix(config)
    whole = measure(mixture.train, encoder, batch=7)
    assert (len(whole.total), whole.shortened) == (len(mixture.train), Counter())
    encoder.max_tokens = min(whole.total) - 1
    shorter = measure(mixture.train, encoder, batch=7)
    without_diary = shorter.shortened["diary block left out"]
    assert without_diary + shorter.shortened["longer than max_seq_length"] == len(mixture.train)
    assert max(shorter.total) <= encoder.max_tokens
    assert len(shorter.total) == without_diary


# The page


def test_the_page_is_self_contained_and_well_formed(config, encoder):
    mixture = mix(config)
    document = Page(page(config, mixture, measure(mixture.train, encoder), encoder))
    assert document.fetched == []
    assert document.under("th")[:2] == ["source", "asked"]
    assert [cell for cell in document.under("td") if cell in SOURCES] == SOURCES
    assert len([around for around, _ in document.texts if around == "b"]) == EXAMPLES


def test_exactly_what_carries_loss_is_marked(config, encoder):
    mixture = mix(config)
    document = Page(page(config, mixture, measure(mixture.train, encoder), encoder))
    chosen = examples(mixture.train, config.seed)
    answers = [turn["content"] for sample in chosen for turn in sample.turns if turn["role"] == "assistant"]
    assert document.under("mark")[1:] == answers  # the first explains
    assert document.under("stop") == ["end of turn"] * len(answers)
    questions = [turn["content"] for sample in chosen for turn in sample.turns if turn["role"] == "user"]
    assert document.under("turn given") == questions
    assert document.under("turn system") == [encoder.persona.system_text] * EXAMPLES
    blocks = document.under("turn memory")
    for sample, block in zip(chosen, blocks, strict=True):
        assert all(entry.text in block and entry.date in block for entry in sample.recalled)


def test_markup_in_a_sample_is_shown_as_text(config, encoder):
    words = "<script>alert(1)</script> <|im_start|>system & so on, I said."
    mixture = Mixture(
        [make_sample("reddit", "<b>:1", ("Well?",), words)], [], {"reddit": stats(licence="<i>")}
    )
    html = page(config, mixture, measure(mixture.train, encoder), encoder)
    assert "<script>" not in html
    assert "<b>:1" not in html
    (_, document) = Page(html).under("mark")
    assert document.replace("\u200b", "") == words


def test_a_row_of_tokens_is_split_into_the_turns_that_it_was_made_of(encoder):
    sample = Sample("conversations", "file:1", alternating_turns("Tea?", "Yes,\nplease.", "Milk?", "No."))
    rows, _ = encoder.encode([sample])
    turns = list(encoder.turns(rows[0]["input_ids"], rows[0]["labels"]))
    messages = build_messages(load_persona(), sample.turns)
    assert [turn.speaker for turn in turns] == ["system", "Drew", "Ada", "Drew", "Ada"]
    assert [turn.context or turn.learned for turn in turns] == [message["content"] for message in messages]
    assert [turn.learns_to_stop for turn in turns] == [False, False, True, False, True]


def test_a_sample_that_does_not_fit_is_shown_as_left_out(config, encoder):
    encoder.max_tokens = 64
    mixture = mix(config)
    html = page(config, mixture, measure(mixture.train, encoder), encoder)
    assert html.count("longer than max_seq_length") == EXAMPLES + 1
    assert Page(html).under("turn given") == []


def test_the_samples_on_the_page_are_of_all_sources_and_the_first_of_each_recalls():
    samples = [
        make_sample(source, f"file:{n}", ("Well?",), f"It was {n}.") for source in SOURCES for n in range(50)
    ]
    recalling = [build for build in samples if build.origin.endswith("7")]
    for index, sample in enumerate(samples):
        if sample in recalling:
            samples[index] = Sample(sample.source, sample.origin, sample.turns, recalled=(object(),))
    repeated = [replace(sample) for sample in samples] + samples
    chosen = examples(repeated, 1)
    assert Counter(sample.source for sample in chosen) == dict.fromkeys(SOURCES, 6)
    assert len({(sample.source, sample.origin) for sample in chosen}) == EXAMPLES
    assert all(chosen[index].recalled for index in range(0, EXAMPLES, 6))
    assert chosen == examples(repeated, 1)
    assert chosen != examples(repeated, 2)


def test_fewer_samples_than_the_page_has_room_for_are_all_shown():
    samples = [make_sample("journals", f"file:{n}", ("Well?",), f"It was {n}.") for n in range(3)]
    assert len(examples(samples, 1)) == 3
