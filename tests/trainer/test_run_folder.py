"""A run's folder: gone when the run fails, complete when it is published, switched in one step.

.venv/bin/python -m pytest tests/trainer/test_run_folder.py
"""

import json
import os
import re
import threading
from pathlib import Path

import pytest

from services.errors import ConfigError
from trainer.run_folder import check_disk, complete, new_run_id, plot_loss, provisional, publish


@pytest.fixture
def output_dir(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "ada_model"


def finished_run(output_dir: Path, run_id: str) -> Path:
    """A folder that a run has filled and not published yet."""
    folder = output_dir.parent / "runs" / f"{run_id}.part"
    folder.mkdir(parents=True)
    (folder / "MANIFEST.json").write_text(json.dumps({"run_id": run_id}))
    return folder


def published_run(output_dir: Path) -> str:
    return json.loads((output_dir / "MANIFEST.json").read_text())["run_id"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# The provisional folder


def test_a_run_is_filled_under_a_provisional_name(output_dir: Path):
    with provisional(output_dir, "run-1") as folder:
        assert folder == output_dir.parent / "runs" / "run-1.part"
        assert folder.is_dir()
    assert folder.is_dir()


@pytest.mark.parametrize(
    "failure", [ConfigError("no"), ZeroDivisionError(), KeyboardInterrupt(), SystemExit(1)]
)
def test_a_run_that_fails_leaves_no_folder(output_dir: Path, failure: BaseException):
    def run() -> None:
        with provisional(output_dir, "run-1") as folder:
            (folder / "checkpoints").mkdir()
            (folder / "checkpoints" / "weights").write_text("half")
            raise failure

    with pytest.raises(type(failure)):
        run()
    assert names(output_dir.parent / "runs") == []


def test_a_run_that_fails_leaves_the_published_one_alone(output_dir: Path):
    publish(finished_run(output_dir, "run-1"), output_dir)
    with pytest.raises(ZeroDivisionError), provisional(output_dir, "run-2"):
        raise ZeroDivisionError
    assert published_run(output_dir) == "run-1"
    assert names(output_dir.parent / "runs") == ["run-1"]


def test_an_output_dir_that_cant_be_made_is_named(tmp_path: Path):
    (tmp_path / "outputs").write_text("a file where a folder should be")
    with (
        pytest.raises(ConfigError, match=r"output_dir .*ada_model: can't write there \(Not a directory\)"),
        provisional(tmp_path / "outputs" / "ada_model", "run-1"),
    ):
        pass


def test_two_runs_never_share_a_folder(output_dir: Path):
    with (
        provisional(output_dir, "run-1"),
        pytest.raises(ConfigError, match="can't write there"),
        provisional(output_dir, "run-1"),
    ):
        pass


def test_a_run_id_begins_with_the_time():
    assert re.fullmatch(r"20\d{6}-\d{6}-[0-9a-f]{4}", new_run_id())


# Publishing


def test_publishing_names_the_run_and_points_the_link_at_it(output_dir: Path):
    final = publish(finished_run(output_dir, "run-1"), output_dir)
    assert final == output_dir.parent / "runs" / "run-1"
    assert output_dir.is_symlink()
    assert output_dir.readlink() == Path("runs/run-1")
    assert published_run(output_dir) == "run-1"


def test_the_link_still_holds_when_outputs_is_moved(output_dir: Path, tmp_path: Path):
    publish(finished_run(output_dir, "run-1"), output_dir)
    output_dir.parent.rename(tmp_path / "elsewhere")
    assert published_run(tmp_path / "elsewhere" / "ada_model") == "run-1"


def test_a_second_run_takes_the_link_and_keeps_the_first(output_dir: Path):
    publish(finished_run(output_dir, "run-1"), output_dir)
    publish(finished_run(output_dir, "run-2"), output_dir)
    assert published_run(output_dir) == "run-2"
    assert names(output_dir.parent) == ["ada_model", "runs"]
    assert names(output_dir.parent / "runs") == ["run-1", "run-2"]


def test_a_reader_never_misses_the_manifest_while_runs_are_published(output_dir: Path):
    publish(finished_run(output_dir, "run-0"), output_dir)
    seen, failed, first_read, done = set(), [], threading.Event(), threading.Event()

    def read_without_pause() -> None:
        while not done.is_set():
            try:
                seen.add(published_run(output_dir))
            except (OSError, ValueError) as error:
                failed.append(error)
            first_read.set()

    reader = threading.Thread(target=read_without_pause)
    reader.start()
    assert first_read.wait(timeout=10)
    for number in range(1, 51):
        publish(finished_run(output_dir, f"run-{number}"), output_dir)
    done.set()
    reader.join(timeout=10)
    assert failed == []
    assert len(seen) > 1
    assert seen <= {f"run-{number}" for number in range(51)}


def test_whoever_serves_a_complete_run_may_read_it_whatever_the_umask(output_dir: Path):
    before = os.umask(0o077)
    try:
        folder = finished_run(output_dir, "run-1")
        (folder / "adapter_config.json").write_text("{}")
        complete(folder, "some/base")
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o644}


def test_a_run_without_its_manifest_is_not_published(output_dir: Path):
    folder = finished_run(output_dir, "run-1")
    (folder / "MANIFEST.json").unlink()
    with pytest.raises(ConfigError, match=r"run-1\.part has no MANIFEST\.json: the run is not complete"):
        publish(folder, output_dir)
    assert names(output_dir.parent) == ["runs"]


def test_a_real_folder_is_not_replaced_and_no_stray_link_is_left(output_dir: Path):
    output_dir.mkdir(parents=True)
    (output_dir / "mine.txt").write_text("kept")
    with pytest.raises(ConfigError, match=r"ada_model is not a link .*: move it away"):
        publish(finished_run(output_dir, "run-1"), output_dir)
    assert names(output_dir) == ["mine.txt"]
    assert names(output_dir.parent) == ["ada_model", "runs"]


def test_a_run_that_can_only_not_be_published_is_kept(output_dir: Path):
    def run() -> None:
        with provisional(output_dir, "run-1") as folder:
            (folder / "MANIFEST.json").write_text("{}")
            publish(folder, output_dir)

    output_dir.mkdir(parents=True)
    with pytest.raises(ConfigError):
        run()
    assert names(output_dir.parent / "runs") == ["run-1"]


def test_a_real_file_is_not_replaced(output_dir: Path):
    folder = finished_run(output_dir, "run-1")
    output_dir.write_text("kept")
    with pytest.raises(ConfigError, match="is not a link"):
        publish(folder, output_dir)


# Completing


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """What TRL and PEFT leave in a folder."""
    (tmp_path / "checkpoints" / "deep").mkdir(parents=True)
    (tmp_path / "checkpoints" / "deep" / "optimizer.pt").write_text("x")
    for name in ("training_args.bin", "tokenizer.json", "tokenizer_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_text("x")
    (tmp_path / "adapter_model.safetensors").chmod(0o600)
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "/root/.cache/x", "r": 8}')
    return tmp_path


def test_completing_removes_what_nobody_reads(saved: Path):
    complete(saved, "Qwen/Qwen3-8B")
    assert names(saved) == ["adapter_config.json", "adapter_model.safetensors"]


def test_completing_names_the_base_model_as_the_manifest_does(saved: Path):
    complete(saved, "package:smollm2-135m-instruct")
    adapter = json.loads((saved / "adapter_config.json").read_text())
    assert adapter == {"base_model_name_or_path": "package:smollm2-135m-instruct", "r": 8}


def test_completing_lets_everybody_read_the_weights(saved: Path):
    complete(saved, "Qwen/Qwen3-8B")
    assert {path.stat().st_mode & 0o777 for path in saved.iterdir()} == {0o644}


def test_a_folder_without_leftovers_completes_too(tmp_path: Path):
    (tmp_path / "adapter_config.json").write_text("{}")
    complete(tmp_path, "Qwen/Qwen3-8B")
    assert names(tmp_path) == ["adapter_config.json"]


# Disk and plot


def test_a_run_without_room_is_refused_by_name(output_dir: Path):
    with pytest.raises(ConfigError) as error:
        check_disk(output_dir, needed=1 << 60)
    assert str(output_dir) in str(error.value)
    assert "this run needs 1073741824.0: free some disk, or set output_dir" in str(error.value)


def test_a_run_with_room_may_start_in_a_folder_yet_to_be_made(output_dir: Path):
    check_disk(output_dir, needed=1)
    assert not output_dir.parent.exists()


def test_room_is_looked_for_where_a_relative_output_dir_lies():
    check_disk(Path("no_such_folder/ada_model"), needed=1)


def test_the_loss_is_drawn_as_a_picture(tmp_path: Path):
    lines = [{"step": 0, "eval_loss": 3.5}, {"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.5}]
    lines.append({"step": 2, "eval_loss": 2.75})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    plot_loss(tmp_path)
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
