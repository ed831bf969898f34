"""Training: what ends a run, what a killed or a shared run learns, and all that a run leaves.

.venv/bin/python -m pytest tests/trainer/training/test_training.py

The base model is tiny; tests/test_whole_loop.py trains the real SmolLM2.
"""

import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml
from manifests import make_manifest
from safetensors.torch import load_file

from services.errors import ConfigError
from services.persona.manifest import Manifest, check_adapter, read_manifest
from services.persona.persona import DEFAULT_PERSONA, load_persona
from services.persona.template import template_for
from trainer import run as run_module
from trainer.__main__ import main
from trainer.config import TrainingConfig, load_config
from trainer.data.mixture import mix
from trainer.runs import folder as run_folder
from trainer.runs.model_card import model_card
from trainer.training import train as training
from trainer.training.train import TrainingFailed

ROOT = Path(__file__).parents[3]
MODEL_CACHE = ROOT / ".cache" / "models"
SMOLLM2 = "package:smollm2-135m-instruct"
PERSONA = load_persona()
CONTRACT = {
    "adapter_model.safetensors",
    "adapter_config.json",
    "chat_template.jinja",
    "persona.toml",
    "config.yaml",
    "metrics.jsonl",
    "loss.png",
    "answers.jsonl",
    "mixture.json",
    "README.md",
    "MANIFEST.json",
}
QUICK = {"evaluations": 1, "checkpoints": 1, "questions": ()}


def run(config: TrainingConfig, cache: Path = MODEL_CACHE) -> Path:
    return run_module.run(config, cache, config.output_dir.parent / "log")


@pytest.fixture
def tiny_run(tiny_model: Path, write_sources, tmp_path: Path) -> dict[str, object]:
    """Settings of a run on the tiny model."""
    return {
        **write_sources(tmp_path / "data"),
        "model_name": str(tiny_model),
        "output_dir": tmp_path / "outputs" / "ada_model",
        "dtype": "float32",
        "lora_rank": 8,
        "max_seq_length": 256,
        "target_size": 10,
        "eval_size": 4,
        "max_steps": 1,
        "warmup_steps": 0,
        "scrub_pii": False,  # what cleans the samples takes seconds to load
        "language": "",
        **QUICK,
    }


# What ends a run


def test_a_model_that_is_unknown_leaves_nothing_behind(tiny_run):
    config = TrainingConfig(**tiny_run | {"model_name": "package:gpt-9"})
    with pytest.raises(ConfigError, match="model_name package:gpt-9 is unknown"):
        run(config)
    assert not config.output_dir.parent.exists()


def test_a_run_that_fails_leaves_the_published_ada_alone(tiny_run):
    first = run(TrainingConfig(**tiny_run))
    with pytest.raises(TrainingFailed, match=r"is (nan|inf) at step"):
        run(TrainingConfig(**tiny_run | {"learning_rate": 1e30, "max_steps": 3}))
    assert tiny_run["output_dir"].resolve() == first
    assert list(first.parent.iterdir()) == [first]
    check_adapter(tiny_run["output_dir"])


def test_a_learning_rate_too_small_to_change_anything_is_fatal(tiny_run):
    with pytest.raises(TrainingFailed, match="after 1 steps the LoRA still changes nothing"):
        run(TrainingConfig(**tiny_run | {"learning_rate": 1e-300}))


def test_memory_that_runs_out_is_answered_with_what_to_change(tiny_run, tmp_path: Path):
    def too_much(*_: object) -> training.Outcome:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    config = TrainingConfig(**tiny_run)
    folder = prepared(config, tmp_path / "run")
    with pytest.raises(TrainingFailed, match=r"out of memory at .* GiB") as error:
        training.train(folder, config.model_name, fit=too_much)
    assert "max_seq_length=1024" in str(error.value)
    assert "lora_rank=32" in str(error.value)


def test_samples_none_of_which_fits_are_told_before_training(tiny_run):
    with pytest.raises(ConfigError, match="no sample fits max_seq_length=64"):
        run(TrainingConfig(**tiny_run | {"max_seq_length": 64}))


def test_too_few_samples_are_told_before_training(tiny_run):
    config = TrainingConfig(**tiny_run | {"target_size": 1})
    with pytest.raises(ConfigError, match="eval_size"):
        run(config)


def test_an_output_dir_that_is_no_link_is_told_before_training(tiny_run):
    tiny_run["output_dir"].mkdir(parents=True)
    with pytest.raises(ConfigError, match="is not a link"):
        run(TrainingConfig(**tiny_run))
    assert not (tiny_run["output_dir"].parent / "runs").exists()


def test_a_run_that_is_not_to_be_published_is_kept_and_the_link_stays(tiny_run):
    final = run(TrainingConfig(**tiny_run | {"publish": False}))
    check_adapter(final)
    assert not tiny_run["output_dir"].exists()


def test_a_run_worse_than_its_base_tells_the_step_that_it_kept_and_is_published_only_when_asked(
    tiny_run, caplog: pytest.LogCaptureFixture
):
    """The best adapter has to be better than none, too. 3.04 before, then 3.2, then 3.5."""
    config = TrainingConfig(**tiny_run)
    folder = trained_worse_and_worse(config)
    final = run_module._train_and_finish(folder, config, config.model_name, folder / "log")
    manifest = check_adapter(final)
    assert (manifest.loss_before, manifest.loss_after, manifest.last_loss) == (3.04, 3.2, 3.5)
    assert (manifest.served_step, manifest.steps) == (1, 2)
    assert manifest.loss_by_source == {"journals": [3.0, 3.1]}
    assert (final / "adapter_model.safetensors").read_text() == "best"
    card = (final / "README.md").read_text(encoding="utf-8")
    assert "This adapter is that of step 1 of 2; the last step's, in `last/`, has a loss of 3.500" in card
    assert "it is worse than its base" in card
    assert not config.output_dir.exists()
    assert f"{final.name} is not published (it is worse than its base: held-out loss rose from" in caplog.text
    assert f"python -m trainer.publish {final.name} --output-dir {config.output_dir}" in caplog.text


def trained_worse_and_worse(config: TrainingConfig) -> Path:
    """A run's folder at the end of its training, whose held-out loss rose with each step."""
    folder = run_folder.begin(config.output_dir, "run-1")
    run_module._prepare(folder, config, mix(config), config.model_name, time.monotonic())
    for target, which in ((folder, "last"), (folder / "best", "best")):
        target.mkdir(exist_ok=True)
        (target / "adapter_model.safetensors").write_text(which)
        (target / "adapter_config.json").write_text(json.dumps({"r": config.lora_rank}))
    run_folder.write_best(folder / "best", step=1, loss=3.2)
    lines = [{"step": step, "eval_all_loss": loss} for step, loss in enumerate((3.04, 3.2, 3.5))]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    measured = training.Outcome(
        loss_before=3.04,
        loss_after=3.5,
        loss_by_source={"journals": [3.0, 3.6]},
        steps=2,
        tokens=100,
        seconds=1.0,
        tokens_per_s=100.0,
        peak_memory_gib=1.0,
        plan="",
        best_step=1,
        best_losses={"all": 3.2, "journals": 3.1},
    )
    (folder / "outcome.json").write_text(json.dumps(asdict(measured)))
    return folder


# A run that was killed


def test_a_killed_run_is_resumed_and_learns_what_an_unbroken_run_does(tiny_run, tmp_path: Path, console):
    longer = {"max_steps": 12, "checkpoints": 6, "evaluations": 3, "learning_rate": 1e-3}
    longer["questions"], longer["answer_tokens"] = ("Who are you?",), 4
    unbroken = run(TrainingConfig(**tiny_run | longer))
    tiny_run |= longer | {"output_dir": tmp_path / "killed" / "ada_model", "log_dir": tmp_path / "logs"}
    config_file = tmp_path / "run.yaml"
    settings = TrainingConfig(**tiny_run).model_dump(mode="json")
    config_file.write_text(yaml.safe_dump(settings), encoding="utf-8")

    kill_at_step(7, tmp_path / "killed", [*TRAINER, "--config", str(config_file)])
    (part,) = (tmp_path / "killed" / "runs").iterdir()
    assert run_folder.last_checkpoint(part) is not None
    damaged = shutil.copytree(tmp_path / "killed", tmp_path / "damaged")
    arguments = ["--resume", f"output_dir={tiny_run['output_dir']}", f"log_dir={tmp_path / 'logs'}"]
    assert trainer_command(arguments) == 0

    resumed = tiny_run["output_dir"]
    first, other = read_manifest(unbroken), read_manifest(resumed)
    assert other.loss_after == pytest.approx(first.loss_after, abs=1e-3)
    assert (first.steps, first.tokens, first.loss_before) == (other.steps, other.tokens, other.loss_before)
    assert losses(resumed) == pytest.approx(losses(unbroken), abs=1e-3)
    assert answers(resumed) == answers(unbroken)
    held_out = dict(zip((0, 4, 8, 12), logged(unbroken, "eval_all_loss"), strict=True))
    assert first.loss_after == held_out[first.served_step] == min(list(held_out.values())[1:])
    assert first.last_loss == held_out[12]
    assert losses(resumed_with_a_damaged_checkpoint(damaged)) == pytest.approx(losses(unbroken), abs=1e-3)


def resumed_with_a_damaged_checkpoint(outputs: Path) -> Path:
    """Its newest checkpoint cut short, as after a power cut: regressions/damaged_newest_checkpoint."""
    (part,) = (outputs / "runs").iterdir()
    edit_yaml(part / "config.yaml", output_dir=str(outputs / "ada_model"))
    newest = run_folder.last_checkpoint(part)
    os.truncate(newest / "adapter_model.safetensors", 1000)
    before = run_folder.last_checkpoint(part)
    assert before is not None
    assert before != newest
    run_module.resume(TrainingConfig(output_dir=outputs / "ada_model"), MODEL_CACHE, outputs / "log")
    return outputs / "ada_model"


def edit_yaml(path: Path, **changes: object) -> None:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


TRAINER = [sys.executable, "-m", "trainer"]


@pytest.fixture
def console() -> Iterator[None]:
    """Takes back what the command does to this process's logging."""
    root, ours = logging.getLogger(), logging.getLogger("trainer")
    handlers, level = ours.handlers[:], ours.level
    yield
    logging.captureWarnings(False)
    for handler in [handler for handler in root.handlers if type(handler) is logging.FileHandler]:
        root.removeHandler(handler)
        handler.close()
    ours.handlers[:] = handlers
    ours.setLevel(level)


def trainer_command(arguments: list[str]) -> int:
    """`python -m trainer` in this process, which has imported all that takes a new one ten seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["trainer", *arguments])
        return main()


def kill_at_step(step: int, outputs: Path, command: list[str]) -> None:
    """Start a run and kill it, and all that it started, as soon as it has logged a step."""
    process = subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 300
    try:
        while not any(
            f'"step": {step},' in path.read_text() for path in outputs.glob("runs/*/metrics.jsonl")
        ):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def losses(folder: Path) -> list[float]:
    """The loss of every step, each once and in order."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, len(steps) + 1))
    return [line["loss"] for line in steps]


def answers(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


def test_without_an_unfinished_run_there_is_nothing_to_resume(tiny_run, tmp_path: Path):
    with pytest.raises(ConfigError, match="no run that could be resumed"):
        run_module.resume(TrainingConfig(**tiny_run), MODEL_CACHE, tmp_path / "log")


# Several processes


# Trains in each folder in turn, as `accelerate launch` would have one process of several train in one.
TWO_RUNS = """
import sys
from accelerate.state import AcceleratorState
from trainer.training.train import main
location, log, *folders = sys.argv[1:]
for folder in folders:
    AcceleratorState._reset_state()  # this process trains more than once
    sys.argv[1:] = [folder, location, log]
    if main():
        sys.exit(1)
"""


def test_two_processes_learn_what_one_does(tiny_run, tmp_path: Path):
    """Two that do not exchange their gradients learn too, and log the same first loss.

    Not covered: between CPU processes accelerate shards nothing, so that `fsdp` is only our own part of it.
    """
    changes = {"gradient_accumulation_steps": 4, "max_steps": 3, "learning_rate": 1e-3, "target_size": 20}
    config = TrainingConfig(**tiny_run | changes)
    alone = prepared(config, tmp_path / "alone")
    training.train(alone, config.model_name)
    shared = [
        prepared(TrainingConfig(**tiny_run | changes | {"sharding": sharding}), tmp_path / sharding)
        for sharding in ("ddp", "fsdp")
    ]
    script = tmp_path / "two_runs.py"
    script.write_text(TWO_RUNS, encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, str(script), config.model_name, str(tmp_path / "log"), *map(str, shared)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300, env=one_thread_each())
    for folder in shared:
        for name in ("loss", "grad_norm"):
            assert logged(folder, name) == pytest.approx(logged(alone, name), rel=0.01), (folder.name, name)


def prepared(config: TrainingConfig, folder: Path) -> Path:
    """A run's folder as it is when training begins."""
    folder.mkdir()
    run_module._prepare(folder, config, mix(config), config.model_name, time.monotonic())
    return folder


def one_thread_each() -> dict[str, str]:
    """Two processes on two cores: with two threads each, they would wait for one another."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def logged(folder: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


# All that a run leaves


@pytest.fixture(scope="module")
def config(write_sources, tmp_path_factory: pytest.TempPathFactory) -> TrainingConfig:
    folder = tmp_path_factory.mktemp("run")
    return TrainingConfig(
        **write_sources(folder / "data"),
        model_name=SMOLLM2,
        output_dir=folder / "outputs" / "ada_model",
        dtype="float32",
        lora_rank=1,
        lora_alpha=2,
        max_seq_length=256,
        target_size=10,
        eval_size=4,
        gradient_accumulation_steps=1,
        evaluations=1,
        checkpoints=1,
        questions=("Who are you?",),
        answer_tokens=4,
        max_steps=2,
        warmup_steps=0,
        learning_rate=1e-2,
    )


@pytest.fixture(scope="module")
def ada(config: TrainingConfig, tiny_cache: Path) -> Path:
    """A complete run of two steps on the tiny model."""
    return run(config, tiny_cache)


@pytest.fixture
def copy(ada: Path, tmp_path: Path) -> Path:
    """An Ada that a test may damage."""
    return shutil.copytree(ada, tmp_path / "ada")


def test_a_run_leaves_every_file_of_the_contract_and_no_other(ada: Path, config: TrainingConfig):
    assert {path.name for path in ada.iterdir()} == CONTRACT
    assert all(path.stat().st_size for path in ada.iterdir())
    assert config.output_dir.resolve() == ada
    beside = {path.name for path in config.output_dir.parent.iterdir()}
    assert beside == {"ada_model", "ada_model.history", "runs"}


def test_the_manifests_hashes_are_the_files(ada: Path, config: TrainingConfig):
    manifest = read_manifest(ada)
    assert manifest.weights_sha256 == sha256(ada / "adapter_model.safetensors")
    assert manifest.adapter_config_sha256 == sha256(ada / "adapter_config.json")
    assert manifest.persona_sha256 == sha256(ada / "persona.toml")
    assert manifest.template_sha256 == sha256(ada / "chat_template.jinja")
    assert manifest.dataset["journals"]["sha256"] == sha256(config.journal_path)


def test_the_manifest_tells_what_the_run_was(ada: Path):
    manifest = read_manifest(ada)
    assert manifest.run_id == ada.name
    assert (manifest.base_model, manifest.lora_rank, manifest.lora_alpha) == (SMOLLM2, 1, 2)
    assert (manifest.user_name, manifest.assistant_name) == ("Drew", "Ada")
    assert (manifest.seed, manifest.steps) == (3407, 2)
    assert {source: share["used"] for source, share in manifest.dataset.items()} == {
        "hippocorpus": 4,
        "journals": 2,
        "reddit": 2,
        "conversations": 2,
    }
    assert manifest.loss_before > manifest.loss_after > 0
    assert set(manifest.versions) == {"python", "torch", "transformers", "trl", "peft", "datasets"}
    assert set(manifest.timings_s) == {"prepare", "train"}
    assert manifest.peak_memory_gib > 0


def test_a_finished_run_is_accepted(ada: Path, config: TrainingConfig):
    assert check_adapter(config.output_dir) == read_manifest(ada)


def test_the_template_beside_the_adapter_is_the_one_it_was_trained_with(ada: Path):
    assert (ada / "chat_template.jinja").read_text(encoding="utf-8") == template_for(PERSONA)
    assert (ada / "persona.toml").read_bytes() == DEFAULT_PERSONA.read_bytes()


def test_the_config_beside_the_adapter_makes_the_same_run_again(ada: Path, config: TrainingConfig):
    assert load_config(ada / "config.yaml", []) == config


def test_the_metrics_hold_each_step_and_the_held_out_loss_of_each_source_before_and_after(ada: Path):
    assert logged(ada, "step") == [0] * 5 + [1, 2] + [2] * 5
    manifest = read_manifest(ada)
    assert logged(ada, "eval_all_loss") == [manifest.loss_before, manifest.loss_after]
    assert set(manifest.loss_by_source) == set(manifest.dataset)
    assert logged(ada, "eval_journals_loss") == manifest.loss_by_source["journals"]
    assert logged(ada, "num_tokens")[-1] == manifest.tokens


def test_she_is_asked_the_same_before_and_after(ada: Path):
    assert [(line["step"], line["question"]) for line in answers(ada)] == [
        (0, "Who are you?"),
        (2, "Who are you?"),
    ]


def test_the_adapter_changes_every_layer_that_it_is_on(ada: Path):
    weights = load_file(ada / "adapter_model.safetensors")
    learned_parts = {name: weight for name, weight in weights.items() if "lora_B" in name}
    assert len(learned_parts) == 2 * 7  # the layers, and the linear parts of each
    assert [name for name, weight in learned_parts.items() if not weight.any()] == []


def test_everybody_may_read_what_a_run_leaves(ada: Path):
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in ada.iterdir())


def test_one_flipped_byte_of_the_weights_is_refused(copy: Path):
    weights = copy / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert refusal(copy) == f"{weights} is damaged (its hash differs): train again"


def test_an_edited_template_is_refused(copy: Path):
    template = copy / "chat_template.jinja"
    template.write_text(template.read_text().replace("Drew", "User"))
    assert refusal(copy).startswith(f"{template} is not the template that Ada was trained with")


def test_an_altered_rank_is_refused(copy: Path):
    edit(copy / "adapter_config.json", lambda adapter: adapter | {"r": 4})
    assert refusal(copy).startswith(f"{copy / 'adapter_config.json'} has r 4, but MANIFEST.json says 1")


@pytest.mark.parametrize("name", ["adapter_config.json", "persona.toml"])
def test_whatever_else_is_altered_in_a_file_that_is_hashed_is_refused(copy: Path, name: str):
    (copy / name).write_text((copy / name).read_text() + "\n")
    assert refusal(copy).startswith(f"{copy / name} was altered (its hash differs)")


def test_a_run_of_before_is_accepted_without_those_hashes(copy: Path):
    new = ("adapter_config_sha256", "persona_sha256", "served_step", "last_loss")
    edit(copy / "MANIFEST.json", lambda manifest: {k: v for k, v in manifest.items() if k not in new})
    assert check_adapter(copy).served_step is None
    assert "This adapter is that of step" not in model_card(read_manifest(copy))


def test_an_adapter_of_another_base_is_refused(copy: Path):
    edit(copy / "adapter_config.json", lambda adapter: adapter | {"base_model_name_or_path": "Qwen/Qwen3-8B"})
    message = refusal(copy)
    assert message.startswith(f"{copy / 'adapter_config.json'} is an adapter of 'Qwen/Qwen3-8B'")
    assert SMOLLM2 in message


@pytest.mark.parametrize(
    "name",
    [
        "MANIFEST.json",
        "adapter_model.safetensors",
        "adapter_config.json",
        "chat_template.jinja",
        "persona.toml",
    ],
)
def test_a_missing_file_is_named(copy: Path, name: str):
    (copy / name).unlink()
    message = refusal(copy)
    assert name in message
    assert "is missing" in message


def test_a_manifest_of_another_schema_is_refused(copy: Path):
    edit(copy / "MANIFEST.json", lambda manifest: manifest | {"schema": 2})
    assert refusal(copy) == f"{copy / 'MANIFEST.json'} has schema 2, this Ada reads 1: train again"


@pytest.mark.parametrize(
    "change", [lambda manifest: manifest | {"colour": "red"}, lambda manifest: without(manifest, "seed")]
)
def test_a_manifest_with_other_fields_is_refused(copy: Path, change):
    edit(copy / "MANIFEST.json", change)
    assert refusal(copy).startswith(f"{copy / 'MANIFEST.json'} does not fit the schema")


def test_a_torn_manifest_is_refused(copy: Path):
    (copy / "MANIFEST.json").write_text((copy / "MANIFEST.json").read_text()[:-10])
    assert refusal(copy).startswith(f"{copy / 'MANIFEST.json'} is not valid JSON")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("adapter_config.json", b'{"base_model_name_or_path": '),
        ("adapter_config.json", b"[]"),
        ("chat_template.jinja", b"\xff"),
        ("MANIFEST.json", b"[]"),
    ],
)
def test_a_file_of_nonsense_is_refused_by_name(copy: Path, name: str, content: bytes):
    (copy / name).write_bytes(content)
    assert str(copy / name) in refusal(copy)


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigError) as error:
        check_adapter(folder)
    return str(error.value)


def edit(path: Path, change: Callable[[dict], dict]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def without(values: dict, name: str) -> dict:
    return {key: value for key, value in values.items() if key != name}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# The model card


def test_the_card_beside_the_adapter_is_the_manifests(ada: Path):
    assert (ada / "README.md").read_text(encoding="utf-8") == model_card(read_manifest(ada))


def test_the_card_says_that_she_is_fictional_and_what_she_is_not_for():
    card = model_card(manifest())
    assert "**Ada is a fictional persona played by a language model.**" in card
    assert "no such person exists" in card
    assert "**Out-of-scope use:** any in which people are not told" in card


def test_the_card_has_the_sections_that_the_hub_expects():
    card = model_card(manifest())
    titles = [line.removeprefix("## ") for line in card.splitlines() if line.startswith("## ")]
    assert titles == [
        "Model details",
        "Uses",
        "Bias, risks and limitations",
        "Training data",
        "Training procedure",
        "Evaluation",
        "Technical specifications",
    ]


def test_the_card_tells_what_each_source_gave_under_which_licence_and_the_loss():
    card = model_card(manifest())
    assert "| hippocorpus | 8 | 9 | 3 | 6 | 3 | 1 | 2 |" in card
    assert "- hippocorpus: O-UDA 1.0 (`stories.csv`, SHA-256 `abcdef" in card
    assert "| all | 3.142 | 2.718 |" in card
    assert "| hippocorpus | 3.000 | 2.000 |" in card


@pytest.mark.parametrize(
    ("base_model", "named"),
    [
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        (SMOLLM2, None),
        pytest.param(
            "/models/qwen3",
            None,
        ),
    ],
)
def test_the_cards_front_matter_names_a_base_that_the_hub_knows(base_model: str, named: str | None):
    front = yaml.safe_load(model_card(manifest(base_model=base_model)).split("---\n")[1])
    assert front["library_name"] == "peft"
    assert front.get("base_model") == named


SHARE = {
    "asked": 8,
    "read": 9,
    "kept": 3,
    "used": 6,
    "repeated": 3,
    "held_out": 1,
    "short": 2,
    "licence": "O-UDA 1.0",
    "file": "stories.csv",
    "sha256": "abcdef" * 10,
}


def manifest(**changes: object) -> Manifest:
    dataset, losses = {"hippocorpus": SHARE}, {"hippocorpus": [3.0, 2.0]}
    values = {"dataset": dataset, "loss_by_source": losses, "loss_before": 3.14159, "loss_after": 2.71828}
    return make_manifest(**values | changes)


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path):
    manifest().write(tmp_path)
    assert asdict(read_manifest(tmp_path)) == asdict(manifest())
    assert [path.name for path in tmp_path.iterdir()] == ["MANIFEST.json"]
