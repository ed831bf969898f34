"""Which run is served: switched in one step, only ever to a whole run, and back again.

.venv/bin/python -m pytest tests/trainer/test_publish.py
"""

import hashlib
import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from manifests import make_manifest

from services.errors import ConfigError
from services.persona.manifest import check_adapter
from services.persona.persona import DEFAULT_PERSONA, load_persona
from services.persona.template import template_for, template_sha256
from trainer.publish import check_link, find_run, publish, publish_if_fit, rollback

ROOT = Path(__file__).parents[2]
TEMPLATE = template_for(load_persona())
BASE = "Qwen/Qwen3-8B"


@pytest.fixture
def output_dir(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "ada_model"


def whole_run(output_dir: Path, run_id: str, **changes: object) -> Path:
    """A run as the trainer leaves it, as far as an adapter is checked."""
    folder = output_dir.parent / "runs" / run_id
    folder.mkdir(parents=True)
    weights = f"weights of {run_id}".encode()
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": BASE}))
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    name = changes.get("assistant_name", "Ada")
    persona = DEFAULT_PERSONA.read_text(encoding="utf-8")
    persona = persona.replace('assistant = "Ada"', f'assistant = "{name}"')
    (folder / "persona.toml").write_text(persona, encoding="utf-8")
    manifest = make_manifest(
        run_id=run_id,
        base_model=BASE,
        pronouns="she/her",
        template_sha256=template_sha256(TEMPLATE),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )
    replace(manifest, **changes).write(folder)
    return folder


def published_run(output_dir: Path) -> str:
    return json.loads((output_dir / "MANIFEST.json").read_text())["run_id"]


def publish_all(output_dir: Path, *run_ids: str) -> None:
    for run_id in run_ids:
        publish(whole_run(output_dir, run_id), output_dir)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestPublishing:
    def test_the_link_points_at_the_run(self, output_dir: Path):
        publish(whole_run(output_dir, "run-1"), output_dir)
        assert output_dir.is_symlink()
        assert output_dir.readlink() == Path("runs/run-1")
        assert published_run(output_dir) == "run-1"

    def test_the_link_still_holds_when_outputs_is_moved(self, output_dir: Path, tmp_path: Path):
        publish_all(output_dir, "run-1")
        output_dir.parent.rename(tmp_path / "elsewhere")
        assert published_run(tmp_path / "elsewhere" / "ada_model") == "run-1"

    def test_a_second_run_takes_the_link_and_keeps_the_first(self, output_dir: Path):
        publish_all(output_dir, "run-1", "run-2")
        assert published_run(output_dir) == "run-2"
        assert names(output_dir.parent) == ["ada_model", "ada_model.history", "runs"]
        assert names(output_dir.parent / "runs") == ["run-1", "run-2"]

    def test_a_reader_never_misses_the_manifest_while_runs_are_published(self, output_dir: Path):
        publish_all(output_dir, "run-0")
        targets, failed, first_read, done = set(), [], threading.Event(), threading.Event()

        def read_without_pause() -> None:
            while not done.is_set():
                try:
                    targets.add(published_run(output_dir))
                except (OSError, ValueError) as error:
                    failed.append(error)
                first_read.set()

        reader = threading.Thread(target=read_without_pause)
        reader.start()
        try:
            assert first_read.wait(timeout=10)
            publish_all(output_dir, *(f"run-{number}" for number in range(1, 51)))
        finally:
            done.set()
            reader.join(timeout=10)
        assert failed == []
        assert len(targets) > 1
        assert targets <= {f"run-{number}" for number in range(51)}

    @pytest.mark.parametrize(
        "name", ["adapter_model.safetensors", "adapter_config.json", "chat_template.jinja", "MANIFEST.json"]
    )
    @pytest.mark.parametrize("damage", ["missing", "altered"])
    def test_a_damaged_run_is_refused_by_its_file_and_nothing_is_switched(
        self, output_dir: Path, name: str, damage: str
    ):
        publish_all(output_dir, "run-1")
        history = (output_dir.parent / "ada_model.history").read_text()
        damaged = whole_run(output_dir, "run-2") / name
        if damage == "missing":
            damaged.unlink()
        else:
            damaged.write_bytes(b'{"schema": 1}')
        with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
            publish(damaged.parent, output_dir)
        assert published_run(output_dir) == "run-1"
        assert (output_dir.parent / "ada_model.history").read_text() == history
        assert names(output_dir.parent) == ["ada_model", "ada_model.history", "runs"]

    def test_a_damaged_first_run_leaves_no_link(self, output_dir: Path):
        run = whole_run(output_dir, "run-1")
        (run / "persona.toml").unlink()
        with pytest.raises(ConfigError, match=r"persona\.toml is missing"):
            publish(run, output_dir)
        assert names(output_dir.parent) == ["runs"]

    def test_a_real_folder_is_not_replaced_and_no_stray_link_is_left(self, output_dir: Path):
        run = whole_run(output_dir, "run-1")
        output_dir.mkdir()
        (output_dir / "mine.txt").write_text("kept")
        with pytest.raises(ConfigError, match=r"ada_model is not a link .*: move it away, or set output_dir"):
            publish(run, output_dir)
        assert names(output_dir) == ["mine.txt"]
        assert names(output_dir.parent) == ["ada_model", "runs"]
        check_adapter(run)

    def test_a_real_file_is_not_replaced(self, output_dir: Path):
        run = whole_run(output_dir, "run-1")
        output_dir.write_text("kept")
        with pytest.raises(ConfigError, match="is not a link"):
            publish(run, output_dir)
        assert output_dir.read_text() == "kept"

    def test_a_link_whose_run_was_deleted_is_switched(self, output_dir: Path):
        output_dir.parent.mkdir()
        output_dir.symlink_to("runs/gone")
        check_link(output_dir)
        publish_all(output_dir, "run-1")
        assert published_run(output_dir) == "run-1"


class TestAfterTraining:
    def complete(self, output_dir: Path, run_id: str, wanted: bool | str = "auto", **changes: object) -> None:
        publish_if_fit(whole_run(output_dir, run_id, **changes), output_dir, wanted)

    def test_the_first_run_is_published_and_it_is_said_what_was_and_is_served(self, output_dir: Path, caplog):
        caplog.set_level("INFO")
        self.complete(output_dir, "run-1")
        self.complete(output_dir, "run-2", loss_after=1.5, served_step=1)
        first, second = caplog.messages
        assert first == f"{output_dir} served nothing; now it serves run-1 (Ada, held-out loss 3.000 → 2.000)"
        assert second.startswith(
            f"{output_dir} served run-1 (Ada, held-out loss 3.000 → 2.000); now it serves"
        )
        assert second.endswith("run-2 (Ada, held-out loss 3.000 → 1.500, step 1 of 2)")
        assert published_run(output_dir) == "run-2"

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"loss_after": 3.5}, "it is worse than its base: held-out loss rose from 3.000 to 3.500"),
            ({"assistant_name": "Marta"}, "it is of Marta, but Ada is served"),
        ],
    )
    def test_what_nobody_would_expect_to_be_served_is_published_only_when_asked(
        self, output_dir: Path, caplog, changes: dict[str, object], reason: str
    ):
        self.complete(output_dir, "run-1")
        self.complete(output_dir, "run-2", **changes)
        assert published_run(output_dir) == "run-1"
        (text,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
        assert text.startswith(f"run-2 is not published ({reason}); {output_dir} serves run-1 (Ada")
        assert f"`python -m trainer.publish run-2 --output-dir {output_dir}` would change that" in text
        self.complete(output_dir, "run-3", True, **changes)
        assert published_run(output_dir) == "run-3"

    def test_another_personas_first_run_is_published_and_one_worse_than_its_base_is_not(
        self, output_dir: Path
    ):
        self.complete(output_dir, "run-1", loss_after=3.5)
        assert not output_dir.exists()
        self.complete(output_dir, "run-2", assistant_name="Marta")
        assert published_run(output_dir) == "run-2"

    def test_a_run_that_is_not_to_be_published_is_not(self, output_dir: Path, caplog):
        self.complete(output_dir, "run-1", False)
        assert not output_dir.exists()
        assert caplog.messages[0].startswith("run-1 is not published (publish=false)")

    def test_a_served_run_that_is_damaged_keeps_no_other_out(self, output_dir: Path):
        self.complete(output_dir, "run-1")
        (output_dir / "MANIFEST.json").unlink()
        self.complete(output_dir, "run-2", assistant_name="Marta")
        assert published_run(output_dir) == "run-2"


class TestRollback:
    def test_once_goes_back_one_and_twice_goes_back_two(self, output_dir: Path):
        publish_all(output_dir, "run-1", "run-2", "run-3")
        assert rollback(output_dir).name == published_run(output_dir) == "run-2"
        assert rollback(output_dir).name == published_run(output_dir) == "run-1"

    def test_after_going_back_and_publishing_it_goes_back_to_what_was_there(self, output_dir: Path):
        publish_all(output_dir, "run-1", "run-2")
        rollback(output_dir)
        publish_all(output_dir, "run-3")
        assert rollback(output_dir).name == published_run(output_dir) == "run-1"

    def test_a_run_published_twice_in_a_row_counts_once(self, output_dir: Path):
        publish_all(output_dir, "run-1", "run-2")
        publish(output_dir.parent / "runs" / "run-2", output_dir)
        assert rollback(output_dir).name == published_run(output_dir) == "run-1"

    def test_to_and_fro_is_remembered_step_by_step(self, output_dir: Path):
        publish_all(output_dir, "run-1", "run-2")
        publish(output_dir.parent / "runs" / "run-1", output_dir)
        assert [rollback(output_dir).name, rollback(output_dir).name] == ["run-2", "run-1"]

    @pytest.mark.parametrize("runs", [(), ("run-1",)])
    def test_with_nothing_before_it_says_so(self, output_dir: Path, runs: tuple[str, ...]):
        publish_all(output_dir, *runs)
        with pytest.raises(ConfigError) as error:
            rollback(output_dir)
        assert str(error.value) == f"no run was published before the current one of {output_dir}"
        assert output_dir.is_symlink() == bool(runs)

    def test_too_many_times_stops_at_the_first_run(self, output_dir: Path):
        publish_all(output_dir, "run-1", "run-2")
        rollback(output_dir)
        with pytest.raises(ConfigError, match="no run was published before"):
            rollback(output_dir)
        assert published_run(output_dir) == "run-1"

    def test_to_a_damaged_run_it_refuses_and_switches_nothing(self, output_dir: Path):
        publish_all(output_dir, "run-1", "run-2")
        (output_dir.parent / "runs" / "run-1" / "adapter_model.safetensors").write_bytes(b"other bits")
        with pytest.raises(ConfigError, match=r"adapter_model\.safetensors is damaged"):
            rollback(output_dir)
        assert published_run(output_dir) == "run-2"

    def test_to_a_run_that_is_gone_it_refuses_and_lists_those_there_are(self, output_dir: Path):
        publish_all(output_dir, "run-1", "run-2")
        (output_dir.parent / "runs" / "run-1").rename(output_dir.parent / "elsewhere")
        with pytest.raises(ConfigError, match=r"no run 'run-1' in .*; there are: run-2$"):
            rollback(output_dir)
        assert published_run(output_dir) == "run-2"


class TestFinding:
    def test_an_id_and_a_path_find_the_same_run(self, output_dir: Path, monkeypatch: pytest.MonkeyPatch):
        run = whole_run(output_dir, "run-1")
        monkeypatch.chdir(output_dir.parent)
        for name in ("run-1", str(run), f"{run}/", "runs/run-1"):
            assert find_run(output_dir, name) == run

    @pytest.mark.parametrize("name", ["run-9", "", ".", "run-2.part", "runs/run-2.part", "notes.txt"])
    def test_what_is_no_run_is_told_with_the_runs_there_are(self, output_dir: Path, name: str):
        for run_id in ("run-3", "run-1", "run-2.part"):
            whole_run(output_dir, run_id)
        (output_dir.parent / "runs" / "notes.txt").write_text("a file")
        with pytest.raises(ConfigError) as error:
            find_run(output_dir, name)
        assert str(error.value) == f"no run {name!r} in {output_dir.parent / 'runs'}; there are: run-1, run-3"

    def test_before_the_first_run_there_are_none(self, output_dir: Path):
        with pytest.raises(ConfigError, match=r"; there are: none$"):
            find_run(output_dir, "run-1")

    def test_a_folder_elsewhere_does_not_stand_for_a_run_of_its_name(self, output_dir: Path, tmp_path: Path):
        whole_run(output_dir, "run-1")
        other = whole_run(tmp_path / "backup" / "ada_model", "run-1")
        with pytest.raises(ConfigError, match="no run"):
            find_run(output_dir, str(other))


class TestCommand:
    def test_it_publishes_and_goes_back(self, output_dir: Path):
        publish_all(output_dir, "run-1")
        whole_run(output_dir, "run-2")
        message = command(output_dir, "run-2")
        assert (message.returncode, message.stderr) == (0, "")
        assert message.stdout.startswith(f"{output_dir} is now run-2; running servers keep their adapter")
        assert "served before: run-1 (Ada, held-out loss 3.000 → 2.000); now: run-2 (Ada" in message.stdout
        assert published_run(output_dir) == "run-2"
        assert command(output_dir, "--rollback").stdout.startswith(f"{output_dir} is now run-1")
        assert published_run(output_dir) == "run-1"

    @pytest.mark.parametrize("argument", ["run-9", "--rollback", "run-2.part", ""])
    def test_a_mistake_is_one_line_and_exit_code_2(self, output_dir: Path, argument: str):
        publish_all(output_dir, "run-1")
        message = command(output_dir, argument)
        assert (message.returncode, message.stdout) == (2, "")
        (line,) = message.stderr.splitlines()
        assert line.startswith("publish: n")
        assert published_run(output_dir) == "run-1"

    def test_a_damaged_run_is_one_line_and_exit_code_2(self, output_dir: Path):
        (whole_run(output_dir, "run-1") / "adapter_model.safetensors").write_bytes(b"")
        message = command(output_dir, "run-1")
        assert message.returncode == 2
        (line,) = message.stderr.splitlines()
        assert "adapter_model.safetensors is damaged" in line


def command(output_dir: Path, argument: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trainer.publish", argument, "--output-dir", str(output_dir)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
