"""A run's folder: gone when nothing of it is of use, kept when it can be taken up again, tidy when complete.

.venv/bin/python -m pytest tests/trainer/runs/test_run_folder.py
"""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.errors import ConfigError
from trainer.runs.checkpoints import seal
from trainer.runs.folder import (
    begin,
    best_loss,
    best_step,
    check_disk,
    choose_adapter,
    complete,
    last_checkpoint,
    locked,
    name_run,
    new_run_id,
    unfinished,
    write_best,
)

ROOT = Path(__file__).parents[3]
WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
HOLD = """
import sys, time
from pathlib import Path
from trainer.runs.folder import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def output_dir(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "ada_model"


@pytest.fixture
def folder(output_dir: Path) -> Path:
    """A run that has begun."""
    return begin(output_dir, "run-1")


def checkpoint(folder: Path, step: int, state: str | None = '{"global_step": 1}') -> Path:
    """A sealed checkpoint with this text as its trainer_state.json, or one without it and without a seal."""
    path = folder / "checkpoints" / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "optimizer.pt").write_text("moments")
    if state is not None:
        (path / "trainer_state.json").write_text(state)
        seal(path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_in(folder: Path, failure: BaseException) -> None:
    with pytest.raises(type(failure)), locked(folder):
        raise failure


FAILURES = [ConfigError("no"), ZeroDivisionError(), KeyboardInterrupt(), SystemExit(1)]


class TestBeginning:
    def test_a_run_is_filled_under_a_provisional_name(self, output_dir: Path):
        folder = begin(output_dir, "run-1")
        assert folder == output_dir.parent / "runs" / "run-1.part"
        assert folder.is_dir()

    def test_an_output_dir_that_cant_be_made_is_named(self, tmp_path: Path):
        (tmp_path / "outputs").write_text("a file where a folder should be")
        with pytest.raises(
            ConfigError, match=r"output_dir .*ada_model: can't write there \(Not a directory\)"
        ):
            begin(tmp_path / "outputs" / "ada_model", "run-1")

    def test_two_runs_never_begin_in_one_folder(self, output_dir: Path, folder: Path):
        with pytest.raises(ConfigError, match="can't write there"):
            begin(output_dir, "run-1")

    def test_a_run_id_begins_with_the_time_and_never_repeats(self):
        ids = [new_run_id() for _ in range(20)]
        assert all(re.fullmatch(r"20\d{6}-\d{6}-[0-9a-f]{4}", run_id) for run_id in ids)
        assert len(set(ids)) == 20


class TestHolding:
    def test_a_run_that_ends_well_stays(self, folder: Path):
        with locked(folder) as same:
            (same / "rows").mkdir()
        assert same == folder
        assert (folder / "rows").is_dir()

    @pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
    def test_a_run_that_fails_before_a_whole_checkpoint_leaves_no_folder(self, folder: Path, failure):
        checkpoint(folder, 5, state=None)
        fail_in(folder, failure)
        assert names(folder.parent) == []

    @pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
    def test_a_run_that_fails_behind_a_whole_checkpoint_stays(self, folder: Path, failure):
        whole = checkpoint(folder, 5)
        fail_in(folder, failure)
        assert (whole / "optimizer.pt").read_text() == "moments"

    def test_a_run_that_fails_leaves_other_runs_alone(self, output_dir: Path, folder: Path):
        (folder.parent / "run-0").mkdir()
        begin(output_dir, "run-2")
        fail_in(folder, ZeroDivisionError())
        assert names(folder.parent) == ["run-0", "run-2.part"]

    def test_a_run_that_fails_after_it_has_its_name_stays(self, folder: Path):
        (folder / "MANIFEST.json").write_text("{}")

        def finish() -> None:
            with locked(folder):
                name_run(folder)
                raise ConfigError("it could only not be published")

        with pytest.raises(ConfigError):
            finish()
        assert names(folder.parent) == ["run-1"]

    def test_a_second_hold_is_refused_and_takes_nothing_away(self, folder: Path):
        with locked(folder):
            with (
                pytest.raises(ConfigError, match=r"run-1\.part is being trained by another process"),
                locked(folder),
            ):
                pytest.fail("held twice")
            assert folder.is_dir()

    def test_a_second_process_is_refused_and_takes_nothing_away(self, folder: Path):
        with locked(folder):
            other = subprocess.run(
                [sys.executable, "-c", HOLD, str(folder)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert folder.is_dir()
        assert other.returncode == 1
        assert "is being trained by another process: wait for it, or end it" in other.stderr
        assert "held" not in other.stdout

    def test_what_a_killed_process_held_can_be_taken_up(self, folder: Path):
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        with holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(ConfigError), locked(folder):
                pytest.fail("held twice")
            holder.kill()
        with locked(folder):
            assert folder.is_dir()


class TestCheckpoints:
    def test_a_folder_without_checkpoints_has_no_last_one(self, folder: Path):
        assert last_checkpoint(folder) is None

    def test_the_last_is_the_one_of_the_highest_step_not_of_the_alphabet(self, folder: Path):
        for step in (5, 100, 20):
            checkpoint(folder, step)
        assert last_checkpoint(folder) == folder / "checkpoints" / "checkpoint-100"

    @pytest.mark.parametrize("state", [None, "", '{"global_step": ', "\x00" * 40])
    def test_a_torn_checkpoint_is_passed_over_for_the_one_before(self, folder: Path, state: str | None):
        whole = checkpoint(folder, 5)
        checkpoint(folder, 10, state)
        assert last_checkpoint(folder) == whole

    def test_a_state_that_is_no_text_is_torn_too(self, folder: Path):
        whole = checkpoint(folder, 5)
        (checkpoint(folder, 10) / "trainer_state.json").write_bytes(b"\xff\xfe\xfd")
        assert last_checkpoint(folder) == whole

    def test_only_torn_checkpoints_are_none(self, folder: Path):
        checkpoint(folder, 5, "{")
        checkpoint(folder, 10, None)
        assert last_checkpoint(folder) is None


class TestUnfinished:
    def prepared(self, output_dir: Path, run_id: str) -> Path:
        folder = begin(output_dir, run_id)
        (folder / "prepared").touch()
        return folder

    def test_it_is_the_newest_prepared_run(self, output_dir: Path):
        self.prepared(output_dir, "20261121-100000-ffff")
        newest = self.prepared(output_dir, "20261122-100000-0000")
        self.prepared(output_dir, "20261120-100000-aaaa")
        assert unfinished(output_dir) == newest

    def test_it_is_never_one_that_was_not_prepared_however_new(self, output_dir: Path):
        older = self.prepared(output_dir, "20261121-100000-ffff")
        begin(output_dir, "20261122-100000-0000")
        assert unfinished(output_dir) == older

    def test_it_is_never_a_finished_run(self, output_dir: Path):
        (output_dir.parent / "runs" / "run-1").mkdir(parents=True)
        (output_dir.parent / "runs" / "run-1" / "prepared").touch()
        with pytest.raises(ConfigError):
            unfinished(output_dir)

    @pytest.mark.parametrize("begun", [False, True])
    def test_where_there_is_none_it_says_what_to_do(self, output_dir: Path, begun: bool):
        if begun:
            begin(output_dir, "run-1")
        with pytest.raises(ConfigError) as error:
            unfinished(output_dir)
        runs = output_dir.parent / "runs"
        assert str(error.value) == f"{runs} holds no run that could be resumed: start one with `make train`"


class TestChoosingTheAdapter:
    @pytest.fixture
    def trained(self, folder: Path) -> Path:
        """A folder with the last adapter at its top, and with the best one as TRL left it."""
        save(folder, "last")
        save(folder / "best", "best")
        (folder / "best" / "held_out.json").write_text('{"step": 20, "loss": 2.5}')
        for name in ("training_args.bin", "tokenizer.json", "README.md"):
            (folder / "best" / name).write_text("x")
        (folder / "best" / "deep").mkdir()
        return folder

    @pytest.mark.parametrize("keep", ["best", "last"])
    @pytest.mark.parametrize("last_loss", [2.5, 2.4])
    def test_the_last_one_stands_alone_when_it_is_the_best(self, trained: Path, keep: str, last_loss: float):
        choose_adapter(trained, keep, last_loss)
        assert adapter(trained) == ["last", "last"]
        assert names(trained) == [SETTINGS, WEIGHTS]

    def test_the_best_one_is_served_and_the_last_one_lies_beside_it(self, trained: Path):
        choose_adapter(trained, "best", 2.6)
        assert adapter(trained) == ["best", "best"]
        assert adapter(trained / "last") == ["last", "last"]
        assert names(trained) == [SETTINGS, WEIGHTS, "last"]
        assert names(trained / "last") == [SETTINGS, WEIGHTS]

    def test_the_last_one_is_served_when_it_is_asked_for_and_the_best_one_lies_beside_it(self, trained: Path):
        choose_adapter(trained, "last", 2.6)
        assert adapter(trained) == ["last", "last"]
        assert adapter(trained / "best") == ["best", "best"]
        assert names(trained) == [SETTINGS, WEIGHTS, "best"]
        assert names(trained / "best") == [SETTINGS, WEIGHTS, "held_out.json"]
        assert best_loss(trained / "best") == 2.5

    @pytest.mark.parametrize("keep", ["best", "last"])
    @pytest.mark.parametrize("last_loss", [2.4, 2.6])
    def test_choosing_twice_is_choosing_once(self, trained: Path, keep: str, last_loss: float):
        choose_adapter(trained, keep, last_loss)
        once = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
        choose_adapter(trained, keep, last_loss)
        assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == once

    @pytest.mark.parametrize("done", ["last kept", "weights at the top", "all at the top"])
    def test_a_choice_that_was_killed_is_completed_by_choosing_again(self, trained: Path, done: str):
        save(trained / "last", "last")
        if done != "last kept":
            shutil.copyfile(trained / "best" / WEIGHTS, trained / WEIGHTS)
        if done == "all at the top":
            shutil.copyfile(trained / "best" / SETTINGS, trained / SETTINGS)
        choose_adapter(trained, "best", 2.6)
        assert adapter(trained) == ["best", "best"]
        assert adapter(trained / "last") == ["last", "last"]
        assert not (trained / "best").exists()

    def test_without_an_evaluation_there_is_only_the_last_one(self, folder: Path):
        save(folder, "last")
        choose_adapter(folder, "best", 2.6)
        assert adapter(folder) == ["last", "last"]
        assert names(folder) == [SETTINGS, WEIGHTS]

    def test_a_best_one_whose_weights_are_damaged_is_not_served(self, trained: Path):
        write_best(trained / "best", 20, 2.5)
        assert best_step(trained / "best") == 20
        (trained / "best" / WEIGHTS).write_text("damaged")
        assert best_step(trained / "best") is None
        choose_adapter(trained, "best", 2.6)
        assert adapter(trained) == ["last", "last"]
        assert names(trained) == [SETTINGS, WEIGHTS]

    def test_a_best_loss_that_was_not_written_whole_is_none(self, trained: Path):
        (trained / "best" / "held_out.json").write_text('{"step": 20, "lo')
        assert best_loss(trained / "best") == math.inf


def save(folder: Path, which: str) -> None:
    """An adapter as PEFT saves it, whose files say which one it is."""
    folder.mkdir(exist_ok=True)
    (folder / WEIGHTS).write_text(which)
    (folder / SETTINGS).write_text(which)


def adapter(folder: Path) -> list[str]:
    return [(folder / name).read_text() for name in (WEIGHTS, SETTINGS)]


class TestCompleting:
    @pytest.fixture
    def saved(self, tmp_path: Path) -> Path:
        """What a run leaves in its folder, with its best adapter beside the last one."""
        checkpoint(tmp_path, 5)
        (tmp_path / "rows" / "taught").mkdir(parents=True)
        (tmp_path / "best").mkdir()
        leftovers = (
            "prepared lock outcome.json failure training_args.bin tokenizer.json tokenizer_config.json"
        )
        names = (
            "metrics.jsonl answers.jsonl mixture.json config.yaml persona.toml chat_template.jinja loss.png"
        )
        for name in (*leftovers.split(), *names.split(), WEIGHTS, f"best/{WEIGHTS}", "best/held_out.json"):
            (tmp_path / name).write_text("x")
        for name in (SETTINGS, f"best/{SETTINGS}"):
            (tmp_path / name).write_text('{"base_model_name_or_path": "/root/.cache/x", "r": 8}')
        return tmp_path

    def test_it_removes_what_nobody_reads_and_nothing_else(self, saved: Path):
        complete(saved, "Qwen/Qwen3-8B")
        assert names(saved) == sorted(
            [
                *("metrics.jsonl", "answers.jsonl", "mixture.json", "config.yaml", "persona.toml"),
                *("chat_template.jinja", "loss.png", "best", WEIGHTS, SETTINGS),
                # What a run that is killed now is known by; naming it takes them away.
                *("prepared", "lock", "outcome.json", "failure"),
            ]
        )
        assert names(saved / "best") == [SETTINGS, WEIGHTS, "held_out.json"]

    @pytest.mark.parametrize("target", [".", "best"])
    def test_every_adapter_names_its_base_as_the_manifest_does(self, saved: Path, target: str):
        complete(saved, "package:smollm2-135m-instruct")
        settings = json.loads((saved / target / SETTINGS).read_text())
        assert settings == {"base_model_name_or_path": "package:smollm2-135m-instruct", "r": 8}

    def test_everybody_may_read_all_of_it_whatever_the_umask(self, saved: Path):
        for path in (saved / WEIGHTS, saved / "best" / WEIGHTS):
            path.chmod(0o600)
        (saved / "best").chmod(0o700)
        before = os.umask(0o077)
        try:
            complete(saved, "some/base")
        finally:
            os.umask(before)
        modes = {path: path.stat().st_mode & 0o777 for path in (saved, *saved.rglob("*"))}
        assert {mode for path, mode in modes.items() if path.is_dir()} == {0o755}
        assert {mode for path, mode in modes.items() if path.is_file()} == {0o644}

    def test_completing_twice_is_completing_once(self, saved: Path):
        complete(saved, "some/base")
        once = {path: path.is_file() and path.read_bytes() for path in saved.rglob("*")}
        complete(saved, "some/base")
        assert {path: path.is_file() and path.read_bytes() for path in saved.rglob("*")} == once

    def test_a_folder_without_leftovers_completes_too(self, tmp_path: Path):
        (tmp_path / SETTINGS).write_text("{}")
        complete(tmp_path, "Qwen/Qwen3-8B")
        assert names(tmp_path) == [SETTINGS]

    def test_a_complete_run_that_fails_before_it_has_its_name_is_not_thrown_away(self, folder: Path):
        checkpoint(folder, 5)
        save(folder, '{"r": 8}')

        def finish() -> None:
            with locked(folder):
                (folder / "outcome.json").write_text("{}")
                complete(folder, "some/base")
                raise OSError("no space left for the model card")

        with pytest.raises(OSError, match="no space left"):
            finish()
        assert (folder / WEIGHTS).exists()


class TestNaming:
    def test_a_whole_run_gets_its_name(self, folder: Path):
        for name in ("MANIFEST.json", "prepared", "outcome.json", "failure", "lock"):
            (folder / name).write_text("{}")
        final = name_run(folder)
        assert final == folder.parent / "run-1"
        assert names(folder.parent) == ["run-1"]
        assert names(final) == ["MANIFEST.json"]

    def test_a_run_without_its_manifest_gets_none(self, folder: Path):
        with pytest.raises(ConfigError, match=r"run-1\.part has no MANIFEST\.json: the run is not complete"):
            name_run(folder)
        assert names(folder.parent) == ["run-1.part"]


class TestDisk:
    def test_a_run_without_room_is_refused_by_name(self, output_dir: Path):
        with pytest.raises(ConfigError) as error:
            check_disk(output_dir, needed=1 << 60)
        assert str(output_dir) in str(error.value)
        assert "this run needs 1073741824.0: free some disk, or set output_dir" in str(error.value)

    def test_a_run_with_room_may_start_in_a_folder_yet_to_be_made(self, output_dir: Path):
        check_disk(output_dir, needed=1)
        assert not output_dir.parent.exists()

    def test_room_is_looked_for_where_a_relative_output_dir_lies(self):
        check_disk(Path("no_such_folder/ada_model"), needed=1)
