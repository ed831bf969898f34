"""A sweep: every combination once, what is done stays done, and a table that holds the runs' own numbers.

.venv/bin/python -m pytest tests/trainer/sweep/test_sweep.py
"""

import json
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from services.errors import ConfigError
from services.persona.manifest import check_adapter
from trainer.log import log, setup_console
from trainer.sweep.__main__ import sweep
from trainer.sweep.grid import Row, load_sweep
from trainer.sweep.report import Draw, plot

ROOT = Path(__file__).parents[3]
GRID = {"lora_rank": [8, 32], "num_epochs": [1, 3]}
RATIOS = ("hippocorpus_ratio", "journal_ratio", "reddit_ratio", "generated_ratio")
HALVES = dict(zip(RATIOS, (0.5, 0, 0, 0.5), strict=True))
QUARTERS = dict.fromkeys(RATIOS, 0.25)

# In the place of `python -m trainer`: leaves a complete run's folder, and does at a rank what `deeds` says.
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path
import yaml
from services.persona.manifest import Manifest
from trainer.runs import folder
from trainer.config import load_config

runner = Path(__file__).parent
config = load_config(Path(sys.argv[-1]), [])
with (runner / "trained").open("a") as file:
    file.write(f"{config.lora_rank} {config.num_epochs:g} {config.seed} {config.publish}\\n")
part = folder.begin(config.output_dir, folder.new_run_id())
(part / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
deed = json.loads((runner / "deeds").read_text()).get(str(config.lora_rank))
if deed == "fail":
    print("words before", "trainer: out of memory at 14.2 GiB", sep="\\n", file=sys.stderr)
    sys.exit(2)
if deed == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if deed == "nothing":
    sys.exit(0)
while deed == "wait" and not (runner / "go on").exists():
    time.sleep(0.02)
lines = [{"step": step, "tokens_per_s": 90.0 + step} for step in (1, 2, 3)]
(part / "metrics.jsonl").write_text("".join(json.dumps(line) + "\\n" for line in lines))
after = 3.0 - config.lora_rank / 100 - config.num_epochs / 10
Manifest(
    run_id=part.name.removesuffix(".part"), created_at="", base_model=config.model_name,
    lora_rank=config.lora_rank, lora_alpha=config.lora_alpha, user_name="", assistant_name="",
    template_sha256="", weights_sha256="", seed=config.seed,
    dataset={"journals": {"used": 30, "held_out": 4}, "conversations": {"used": 20, "held_out": 6}},
    versions={}, timings_s={"prepare": 30.0, "train": 60.0}, peak_memory_gib=1.25, steps=3, tokens=4321,
    loss_before=3.5, loss_after=after,
    loss_by_source={"journals": [3.6, after + 0.1], "conversations": [3.4, after - 0.2]},
).write(part)
print("complete:", folder.name_run(part))
"""


def no_plot(rows: list[Row], path: Path) -> None:
    """Most tests look at no plot, and drawing one takes longer than all else that they do."""


class SweepRunner:
    """A sweep's YAML with its outputs, and what the stand-in for the trainer does and did."""

    def __init__(self, folder: Path) -> None:
        self.file, self.outputs = folder / "ranks.yaml", folder / "outputs"
        self.folder, self.runs = self.outputs / "sweeps" / "ranks", self.outputs / "runs"
        self.go_on, self._trained, self._deeds = folder / "go on", folder / "trained", folder / "deeds"
        self.stdout, self.stderr = folder / "stdout", folder / "stderr"
        self.script = folder / "stand_in.py"
        self.script.write_text(STAND_IN)
        self.command = (sys.executable, str(self.script))
        self.write(grid=GRID)
        self.script_deeds({})

    def write(self, **values: object) -> Path:
        common = {"settings": {"output_dir": str(self.outputs / "ada_model")}}
        self.file.write_text(yaml.safe_dump(common | values, sort_keys=False))
        return self.file

    def script_deeds(self, deeds: dict[int, str]) -> None:
        self._deeds.write_text(json.dumps(deeds))

    def sweep(self, *overrides: str, draw: Draw = no_plot) -> int:
        return sweep(self.file, list(overrides), self.command, draw)

    def start(self) -> subprocess.Popen[bytes]:
        """The same in a process of its own."""
        program = (
            "import sys; from pathlib import Path; from trainer.log import setup_console; "
            "from trainer.sweep.__main__ import sweep; setup_console(); "
            "sys.exit(sweep(Path(sys.argv[1]), [], tuple(sys.argv[2:])))"
        )
        command = [sys.executable, "-c", program, str(self.file), *self.command]
        with self.stdout.open("w") as stdout, self.stderr.open("w") as stderr:
            return subprocess.Popen(command, cwd=ROOT, stdout=stdout, stderr=stderr, process_group=0)

    def trained(self) -> list[str]:
        """What the stand-in was started for, in order: rank, epochs, seed, publish."""
        return self._trained.read_text().splitlines() if self._trained.exists() else []

    def table(self) -> list[dict]:
        return json.loads((self.folder / "table.json").read_text())

    def complete_runs(self) -> list[str]:
        return sorted(path.name for path in self.runs.iterdir() if not path.suffix)


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepRunner:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return SweepRunner(tmp_path)


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]):
    """Our lines on this test's stdout and stderr."""
    earlier = list(log.handlers)
    setup_console()
    yield capsys
    log.handlers[:] = earlier


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "waited 30 s in vain"
        time.sleep(0.02)


# What is run


def test_every_combination_is_trained_once_in_the_order_of_the_grid_and_none_is_published(
    runner: SweepRunner,
):
    assert runner.sweep() == 0
    assert runner.trained() == [f"{rank} {epochs} 3407 False" for rank, epochs in product((8, 32), (1, 3))]
    assert len(runner.complete_runs()) == 4
    assert not (runner.outputs / "ada_model").exists()


def test_settings_go_over_the_base_the_grid_over_both_and_the_command_line_over_all(runner, tmp_path):
    base = tmp_path / "base.yaml"
    base.write_text("seed: 1\nbatch_size: 2\nmax_seq_length: 128\nlora_rank: 1\npublish: true\n")
    common = {"seed": 2, "batch_size": 3, "output_dir": str(runner.outputs / "ada_model")}
    runner.write(base=str(base), settings=common, grid={"lora_rank": [8, 16]})
    configs = [point.config for point in load_sweep(runner.file, ["seed=4"]).points]
    assert [config.lora_rank for config in configs] == [8, 16]
    assert {(c.seed, c.batch_size, c.max_seq_length, c.publish) for c in configs} == {(4, 3, 128, False)}


def test_a_mixture_sets_the_four_ratios_together(runner: SweepRunner):
    runner.write(grid={"mixtures": [HALVES, QUARTERS], "seed": [1, 2]})
    plan = load_sweep(runner.file, [])
    assert [p.config.journal_ratio for p in plan.points] == [0, 0, 0.25, 0.25]
    assert str(plan.points[2]) == "mixtures=0.25/0.25/0.25/0.25, seed=1"


def test_the_sweep_has_its_files_name_or_the_one_that_is_written_in_it(runner: SweepRunner):
    assert load_sweep(runner.file, []).folder == runner.folder
    runner.write(name="volume", grid=GRID)
    assert load_sweep(runner.file, []).folder == runner.outputs / "sweeps" / "volume"


@settings(max_examples=30, deadline=None)
@given(
    grid=st.dictionaries(
        st.sampled_from(["seed", "target_size", "warmup_steps", "max_words", "batch_size"]),
        st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True),
        min_size=1,
        max_size=3,
    )
)
def test_whatever_the_grid_all_its_runs_are_different_unpublished_and_in_one_order(tmp_path_factory, grid):
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(yaml.safe_dump({"grid": grid}, sort_keys=False))
    points = load_sweep(file, []).points
    assert [tuple(point.varied.values()) for point in points] == list(product(*grid.values()))
    assert len({point.key for point in points}) == math.prod(map(len, grid.values()))
    assert not any(point.config.publish for point in points)


def test_the_example_is_a_sweep_of_four_runs():
    assert len(load_sweep(ROOT / "trainer/configs/sweep.yaml", []).points) == 4


# What is refused before anything runs


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "grid: Field required"),
        ({"grid": {}}, "grid: Dictionary should have at least 1 item"),
        ({"grid": {"seed": []}}, "grid.seed: List should have at least 1 item"),
        ({"grid": {"seed": 3}}, "grid.seed: Input should be a valid list"),
        ({"grid": GRID, "grids": {}}, "grids: Extra inputs are not permitted"),
        ({"grid": GRID, "name": "../up"}, "name: String should match"),
        ({"grid": {"lora_rnk": [8]}}, "grid: lora_rnk is no setting of a run: did you mean lora_rank?"),
        ({"grid": GRID, "settings": {"epoch": 1}}, "settings: epoch is no setting of a run"),
        (
            {"grid": {"lora_rank": [8, 513]}},
            "grid: lora_rank=513: lora_rank: Input should be less than or equal",
        ),
        ({"grid": {"seed": [1, 2, 1]}}, "grid: seed=1 and seed=1 are the same run: take one out"),
        ({"grid": {"learning_rate": [0.0001, "1e-4"]}}, "are the same run"),
        ({"grid": {"publish": [True]}}, "publish can't be set, a sweep publishes nothing"),
        ({"grid": {"output_dir": ["a", "b"]}}, "output_dir is one for the whole sweep"),
        ({"grid": {"mixtures": [{"journal_ratio": 1}]}}, "mixtures 1: write all of hippocorpus_ratio"),
        ({"grid": {"mixtures": [QUARTERS, 0.5]}}, "mixtures 2: write all of hippocorpus_ratio"),
        (
            {"grid": {"mixtures": [QUARTERS | {"reddit_ratio": 0.5}]}},
            "the four ratios must sum to 1, they sum to 1.25",
        ),
        (
            {"grid": {"mixtures": [QUARTERS], "reddit_ratio": [0.25]}},
            "mixtures sets the four ratios together: take reddit_ratio out",
        ),
    ],
)
def test_a_grid_with_a_mistake_is_refused_before_its_first_run(
    runner: SweepRunner, terminal, values, message: str
):
    runner.write(**values)
    assert runner.sweep() == 2
    (line,) = terminal.readouterr().err.splitlines()
    assert line.startswith(f"sweep: {runner.file}: ")
    assert message in line
    assert runner.trained() == []
    assert not runner.outputs.exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lora_rank=8", "command line: lora_rank is varied in"),
        ("publish=true", "command line: publish can't be set"),
        ("sed=1", "command line: sed is no setting of a run: did you mean seed?"),
        ("batch_size=0", "command line: batch_size: Input should be greater than or equal to 1"),
        ("seed", "argument 'seed': write name=value"),
    ],
)
def test_an_override_with_a_mistake_names_the_command_line(runner: SweepRunner, override: str, message: str):
    with pytest.raises(ConfigError, match=message):
        load_sweep(runner.file, [override])


def test_a_setting_may_follow_another_one(runner: SweepRunner):
    runner.write(
        grid={"lora_rank": [8, 48]}, ties={"lora_alpha": "2*lora_rank", "warmup_steps": "lora_rank / 4"}
    )
    points = load_sweep(runner.file, ["max_seq_length=512"]).points
    assert [(p.config.lora_rank, p.config.lora_alpha, p.config.warmup_steps) for p in points] == [
        (8, 16, 2),
        (48, 96, 12),
    ]
    assert [str(point) for point in points] == ["lora_rank=8", "lora_rank=48"]


@pytest.mark.parametrize(
    ("values", "override", "message"),
    [
        ({"ties": {"lora_alpha": "twice"}}, "", "ties: lora_alpha is 'twice': write a number times another"),
        ({"ties": {"lora_alpha": "2*packing"}}, "", "ties: lora_alpha is '2\\*packing'"),
        ({"ties": {"lora_alpha": "lora_rank/0"}}, "", "ties: lora_alpha is 'lora_rank/0'"),
        ({"ties": {"lora_alhpa": "lora_rank"}}, "", "ties: lora_alhpa is no setting of a run: did you mean"),
        ({"ties": {"lora_alpha": "0.1*lora_rank"}}, "", "lora_alpha: Input should be a valid integer"),
        ({"ties": {"lora_rank": "seed"}}, "", "grid: lora_rank is tied in"),
        ({"ties": {"lora_alpha": "lora_rank"}}, "lora_alpha=4", "command line: lora_alpha is tied in"),
    ],
)
def test_a_tie_that_cannot_be_followed_is_refused(
    runner: SweepRunner, values: dict, override: str, message: str
):
    runner.write(grid={"lora_rank": [8]}, **values)
    with pytest.raises(ConfigError, match=message):
        load_sweep(runner.file, [override] if override else [])


def test_a_base_that_is_missing_or_wrong_is_named(runner: SweepRunner, tmp_path: Path):
    base = tmp_path / "base.yaml"
    runner.write(base=str(base), grid=GRID)
    with pytest.raises(ConfigError, match=f"no config at {base}"):
        load_sweep(runner.file, [])
    base.write_text("lora_rank: 0")
    with pytest.raises(ConfigError, match=f"{base}: lora_rank: Input should be greater"):
        load_sweep(runner.file, [])


def test_an_output_dir_that_is_no_link_is_refused_before_the_first_run(runner: SweepRunner):
    (runner.outputs / "ada_model").mkdir(parents=True)
    with pytest.raises(ConfigError, match="is not a link to a run: move it away"):
        load_sweep(runner.file, [])


# Going on


def test_a_sweep_that_is_started_again_trains_nothing_twice(runner: SweepRunner):
    assert runner.sweep() == 0
    before = runner.table()
    assert runner.sweep() == 0
    assert len(runner.trained()) == 4
    assert runner.table() == before


def test_a_run_that_was_deleted_and_a_value_that_is_new_are_trained(runner: SweepRunner):
    runner.sweep()
    shutil.rmtree(runner.runs / runner.table()[1]["run"])
    runner.write(grid=GRID | {"lora_rank": [8, 32, 64]})
    assert runner.sweep() == 0
    assert [line[:4] for line in runner.trained()[4:]] == ["8 3 ", "64 1", "64 3"]


def test_other_settings_are_other_runs(runner: SweepRunner):
    runner.sweep()
    runner.sweep("seed=1")
    assert len(runner.trained()) == 8
    runner.sweep()
    assert len(runner.trained()) == 8


def test_a_run_whose_settings_were_altered_is_not_taken_for_the_points(runner: SweepRunner):
    runner.sweep()
    config = runner.runs / runner.table()[0]["run"] / "config.yaml"
    config.write_text(config.read_text().replace("seed: 3407", "seed: 3408"))
    runner.sweep()
    assert len(runner.trained()) == 5


def test_without_the_sweeps_folder_all_begins_anew(runner: SweepRunner):
    runner.sweep()
    shutil.rmtree(runner.folder)
    runner.sweep()
    assert len(runner.trained()) == 8


def test_a_state_that_somebody_broke_is_named(runner: SweepRunner, terminal):
    runner.sweep()
    (runner.folder / "state.json").write_text("[]")
    assert runner.sweep() == 2
    assert f"{runner.folder / 'state.json'} is damaged: delete it" in terminal.readouterr().err


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        ("fail", "trainer: out of memory at 14.2 GiB"),
        ("die", "killed by SIGKILL"),
        ("nothing", "ended with code 0, without a word and a complete run"),
    ],
)
def test_a_run_that_fails_is_recorded_the_others_go_on_and_it_alone_is_trained_again(
    runner: SweepRunner, terminal, deed: str, words: str
):
    runner.write(grid={"lora_rank": [8, 16, 32]})
    runner.script_deeds({16: deed})
    assert runner.sweep() == 1
    assert [row["status"] for row in runner.table()] == ["complete", "failed", "complete"]
    assert runner.table()[1]["failure"] == words
    assert f"failed: {words}" in (runner.folder / "table.txt").read_text()
    assert "run 2 of 3 failed: lora_rank=16" in terminal.readouterr().err
    runner.script_deeds({})
    assert runner.sweep() == 0
    assert [line.split()[0] for line in runner.trained()] == ["8", "16", "32", "16"]
    assert sorted(runner.complete_runs()) == sorted(path.name for path in runner.runs.iterdir())


def test_ctrl_c_is_one_line_ends_the_run_and_keeps_what_is_complete(runner: SweepRunner):
    runner.script_deeds({32: "wait"})
    process = runner.start()
    until(lambda: any(runner.runs.glob("*.part/config.yaml")) and len(runner.trained()) == 3)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert (
        runner.stderr.read_text()
        == "sweep: interrupted; runs that are complete stay, the same command goes on\n"
    )
    runner.script_deeds({})
    assert runner.sweep() == 0
    assert len(runner.trained()) == 5
    assert len(list(runner.runs.iterdir())) == 4


def test_a_sweep_that_was_killed_with_its_run_goes_on_where_it_was(runner: SweepRunner):
    runner.script_deeds({32: "wait"})
    process = runner.start()
    until(lambda: any(runner.runs.glob("*.part/config.yaml")) and len(runner.trained()) == 3)
    process.kill()
    process.wait()
    end_the_run_of(runner)
    runner.script_deeds({})
    assert runner.sweep() == 0
    assert [line[:4] for line in runner.trained()] == ["8 1 ", "8 3 ", "32 1", "32 1", "32 3"]
    assert len(list(runner.runs.iterdir())) == 4


def end_the_run_of(runner: SweepRunner) -> None:
    """Kill the process that trains, which its sweep left behind."""
    processes = [
        int(process.name)
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and str(runner.script).encode() in command_line(process)
    ]
    for process in processes:
        os.kill(process, signal.SIGKILL)
    assert len(processes) == 1


def command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_run_that_outlives_its_killed_sweep_is_waited_for_and_not_trained_again(runner: SweepRunner):
    runner.script_deeds({32: "wait"})
    first = runner.start()
    until(lambda: len(runner.trained()) == 3)
    first.kill()
    first.wait()
    second = runner.start()
    until(lambda: "waiting for it" in runner.stdout.read_text())
    runner.go_on.touch()
    assert second.wait(timeout=60) == 0
    assert len(runner.trained()) == 4
    assert [row["status"] for row in runner.table()] == ["complete"] * 4


# What is left


def test_the_table_holds_the_runs_own_numbers(runner: SweepRunner, terminal):
    runner.sweep()
    row = runner.table()[3]
    assert row == {
        "settings": {"lora_rank": 32, "num_epochs": 3.0},
        "status": "complete",
        "run": row["run"],
        "samples": 40,
        "tokens": 4321,
        "steps": 3,
        "held_out": {
            "all": [3.5, pytest.approx(2.38)],
            "journals": [3.6, pytest.approx(2.48)],
            "conversations": [3.4, pytest.approx(2.18)],
        },
        "tokens_per_s": 92.0,
        "peak_memory_gib": 1.25,
        "minutes": 1.5,
    }
    text = (runner.folder / "table.txt").read_text()
    head, *lines = text.splitlines()
    assert head.split()[:5] == ["lora_rank", "num_epochs", "samples", "tokens", "steps"]
    assert "3.500 → 2.380" in lines[3]
    assert lines[3].endswith(row["run"])
    assert text in terminal.readouterr().out


def test_the_table_is_there_while_the_sweep_runs(runner: SweepRunner):
    runner.script_deeds({32: "wait"})
    process = runner.start()
    until(lambda: len(runner.trained()) == 3)
    assert [row["status"] for row in runner.table()] == ["complete"] * 2 + ["not trained yet"] * 2
    runner.go_on.touch()
    assert process.wait(timeout=60) == 0
    assert [row["status"] for row in runner.table()] == ["complete"] * 4


def test_runs_that_were_measured_on_different_samples_are_told(runner: SweepRunner):
    runner.sweep()
    caution = "The losses before training differ"
    assert caution not in (runner.folder / "table.txt").read_text()
    manifest = runner.runs / runner.table()[0]["run"] / "MANIFEST.json"
    manifest.write_text(manifest.read_text().replace('"loss_before": 3.5', '"loss_before": 3.3'))
    runner.sweep()
    assert caution in (runner.folder / "table.txt").read_text()


@pytest.mark.parametrize(
    ("grid", "panels", "lines"),
    [
        ({"lora_rank": [8, 32], "num_epochs": [1, 3]}, 2, 2),
        ({"lora_rank": [8, 32], "mixtures": [HALVES, QUARTERS]}, 1, 2),
        ({"packing": [True, False]}, 1, 1),
        ({"lora_rank": [8]}, 1, 1),
    ],
)
def test_the_plot_has_one_panel_a_varied_number_and_room_for_its_legend(
    runner: SweepRunner, grid: dict, panels: int, lines: int
):
    runner.write(grid=grid)
    runner.sweep(draw=plot)
    png = (runner.folder / "plot.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", png[16:24])
    assert (width, height) == (round((0.8 + 5.2 * panels) * 120), round((4.4 + 0.19 * (lines + 2)) * 120))


def test_a_sweep_in_which_all_failed_still_has_a_table_and_a_plot(runner: SweepRunner):
    runner.script_deeds({8: "fail", 32: "fail"})
    assert runner.sweep(draw=plot) == 1
    assert (runner.folder / "plot.png").stat().st_size > 0
    assert [row["status"] for row in runner.table()] == ["failed"] * 4


# For real


def test_two_points_of_a_tiny_model_are_trained_from_data_to_table(
    write_sources, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    files = {name: str(path) for name, path in write_sources(tmp_path / "data").items()}
    run = {"dtype": "float32", "max_seq_length": 256, "target_size": 24, "eval_size": 8, "max_steps": 2}
    run |= {
        "warmup_steps": 0,
        "evaluations": 1,
        "questions": [],
        "model_name": str(tiny_model),
        "scrub_pii": False,  # what cleans the samples takes seconds to load
        "language": "",
    }
    run |= {"output_dir": str(tmp_path / "outputs" / "ada_model")}
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump({"settings": files | run, "grid": {"lora_rank": [8, 16]}}))
    monkeypatch.chdir(ROOT)
    assert sweep(file, []) == 0
    plan = load_sweep(file, [])
    rows = json.loads((plan.folder / "table.json").read_text())
    for row, point in zip(rows, plan.points, strict=True):
        manifest = check_adapter(plan.runs / row["run"])
        assert manifest.lora_rank == point.config.lora_rank == row["settings"]["lora_rank"]
        assert (row["steps"], row["samples"]) == (2, 16)
        assert row["held_out"]["all"] == [manifest.loss_before, manifest.loss_after]
        assert row["tokens_per_s"] > 0
    assert rows[0]["held_out"]["all"][0] == pytest.approx(rows[1]["held_out"]["all"][0], rel=1e-4)
