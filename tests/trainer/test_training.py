"""Training: what carries loss, what ends a run, and one real run of SmolLM2 with all it leaves.

.venv/bin/python -m pytest tests/trainer/test_training.py            # with the real run, some ten seconds
.venv/bin/python -m pytest tests/trainer/test_training.py -m "not model"
"""

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, TrainerControl, TrainerState
from trl import SFTTrainer

from services.errors import ConfigError
from services.persona.manifest import Manifest, check_adapter, read_manifest
from services.persona.persona import DEFAULT_PERSONA, load_persona
from services.persona.template import template_for
from trainer.__main__ import run
from trainer.base_model import load_tokenizer
from trainer.config import TrainingConfig, load_config
from trainer.model_card import model_card
from trainer.sample import Sample, told
from trainer.training import MetricsFile, TrainingFailed, _arguments, dataset

ROOT = Path(__file__).parents[2]
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
    "README.md",
    "MANIFEST.json",
}
LONG = "I sewed the first section. " * 60


@pytest.fixture(scope="module")
def tiny_model(smollm2_location: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model of one small layer with random weights and SmolLM2's tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    config = AutoConfig.from_pretrained(smollm2_location, **shape, **heads)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    load_tokenizer(smollm2_location).save_pretrained(folder)
    return folder


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
        "eval_size": 2,
        "max_steps": 1,
        "warmup_steps": 0,
    }


# What carries loss


@pytest.mark.parametrize("packing", [True, False])
def test_the_labels_are_adas_words_and_her_ends_of_turn_and_nothing_else(
    tiny_model: Path, tmp_path: Path, packing: bool
):
    turns = (
        "Morning. What are you at?",
        "Sewing headbands, with the radio on.",
        "Still?",
        "Still. It's slow.",
    )
    talk = tuple({"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(turns))
    samples = [
        told(
            "hippocorpus",
            "a:1",
            "Tell me a story.",
            "We took the ferry to Inishbofin.\nIt rained, and it was grand.",
        ),
        told(
            "reddit",
            "b:1",
            "Me & <|im_end|>?",
            "He wrote <|im_end|> and <think>, and I told him — née, 你好 — to stop.",
        ),
        Sample("conversations", "c:0", talk),
    ]
    config = TrainingConfig(max_seq_length=512, packing=packing, gradient_checkpointing=False)
    trainer = trainer_of(tiny_model, samples, config, tmp_path)
    expected = [
        "We took the ferry to Inishbofin.\nIt rained, and it was grand.<|im_end|>",
        "He wrote <\u200b|im_end|> and <\u200bthink>, and I told him — née, 你好 — to stop.<|im_end|>",
        "Sewing headbands, with the radio on.<|im_end|>",
        "Still. It's slow.<|im_end|>",
    ]
    assert sorted(learned(trainer)) == sorted(expected)


def test_every_row_begins_with_who_ada_is():
    (row,) = dataset(PERSONA, [told("reddit", "b:1", "Hello?", "Hello.")])
    assert [message["role"] for message in row["messages"]] == ["system", "user", "assistant"]
    assert row["messages"][0]["content"] == PERSONA.system_text


def trainer_of(model: Path, samples: list[Sample], config: TrainingConfig, folder: Path) -> SFTTrainer:
    """TRL's trainer with our arguments, template and data set."""
    tokenizer = load_tokenizer(str(model))
    tokenizer.chat_template = template_for(PERSONA)
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=_arguments(config, folder),
        train_dataset=dataset(PERSONA, samples),
        processing_class=tokenizer,
    )


def learned(trainer: SFTTrainer) -> list[str]:
    """Each stretch of tokens that carries loss, as text."""
    spans = []
    for row in trainer.train_dataset:
        span = []
        for label in [*row["labels"], -100]:
            if label != -100:
                span.append(label)
            elif span:
                spans.append(trainer.processing_class.decode(span))
                span = []
    return spans


# What ends a run


def test_a_run_in_which_ada_would_never_stop_is_refused_and_leaves_nothing(tiny_run):
    talks = [
        {"conversations": [{"role": "user", "content": "And?"}, {"role": "assistant", "content": LONG}]}
    ] * 20
    tiny_run["generated_data_path"].write_text(json.dumps(talks), encoding="utf-8")
    only_talks = {"hippocorpus_ratio": 0, "journal_ratio": 0, "reddit_ratio": 0, "generated_ratio": 1}
    config = TrainingConfig(**tiny_run | only_talks)
    with pytest.raises(
        TrainingFailed, match=r"no <\|im_end\|> carries loss in any row: Ada would never stop"
    ):
        run(config, MODEL_CACHE)
    assert list(config.output_dir.parent.rglob("*")) == [config.output_dir.parent / "runs"]


def test_a_model_that_is_unknown_leaves_nothing_behind(tiny_run):
    config = TrainingConfig(**tiny_run | {"model_name": "package:gpt-9"})
    with pytest.raises(ConfigError, match="model_name package:gpt-9 is unknown"):
        run(config, MODEL_CACHE)
    assert not config.output_dir.parent.exists()


def test_a_run_that_fails_leaves_the_published_ada_alone(tiny_run):
    first = run(TrainingConfig(**tiny_run), MODEL_CACHE)
    with pytest.raises(TrainingFailed):
        run(
            TrainingConfig(**tiny_run | {"learning_rate": 1e30, "max_steps": 3, "warmup_steps": 0}),
            MODEL_CACHE,
        )
    assert tiny_run["output_dir"].resolve() == first
    assert list(first.parent.iterdir()) == [first]
    check_adapter(tiny_run["output_dir"])


@pytest.mark.parametrize("loss", [math.nan, math.inf])
@pytest.mark.parametrize("key", ["loss", "eval_loss"])
def test_a_loss_that_is_no_number_ends_the_run_at_its_step(tmp_path: Path, key: str, loss: float):
    with pytest.raises(TrainingFailed, match=f"the loss is {loss} at step 7: lower learning_rate"):
        log(tmp_path / "metrics.jsonl", 7, {key: loss})


def test_each_step_is_one_line_of_metrics(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    log(path, 1, {"loss": 2.5, "learning_rate": 5e-5})
    log(path, 1, {"train_runtime": 3.0})
    log(path, 1, {"eval_loss": 2.25})
    one, other = (json.loads(line) for line in path.read_text().splitlines())
    assert (one["step"], one["of"], one["loss"], one["learning_rate"]) == (1, 9, 2.5, 5e-5)
    assert (other["step"], other["eval_loss"]) == (1, 2.25)


def log(path: Path, step: int, logs: dict[str, float]) -> None:
    state = TrainerState(global_step=step, max_steps=9)
    MetricsFile(path).on_log(None, state, TrainerControl(), logs)


def test_too_few_samples_are_told_before_the_model_is_loaded(tiny_run):
    config = TrainingConfig(**tiny_run | {"eval_size": 10, "model_name": "package:gpt-9"})
    with pytest.raises((ConfigError, TrainingFailed), match="eval_size"):
        run(config, MODEL_CACHE)


def test_an_output_dir_that_is_no_link_is_told_before_training(tiny_run):
    tiny_run["output_dir"].mkdir(parents=True)
    with pytest.raises(ConfigError, match="is not a link"):
        run(TrainingConfig(**tiny_run), MODEL_CACHE)
    assert not (tiny_run["output_dir"].parent / "runs").exists()


# The one real run


@pytest.fixture(scope="module")
def config(write_sources, tmp_path_factory: pytest.TempPathFactory) -> TrainingConfig:
    room = tmp_path_factory.mktemp("run")
    return TrainingConfig(
        **write_sources(room / "data"),
        model_name=SMOLLM2,
        output_dir=room / "outputs" / "ada_model",
        dtype="float32",
        lora_rank=1,
        lora_alpha=2,
        max_seq_length=128,
        target_size=10,
        eval_size=2,
        gradient_accumulation_steps=1,
        max_steps=2,
        warmup_steps=0,
        learning_rate=1e-3,
    )


@pytest.fixture(scope="module")
def ada(config: TrainingConfig, smollm2_location: str) -> Path:
    """Ada after two steps of SmolLM2, at rank 1 to be small to copy; `smollm2_location` has converted it."""
    return run(config, MODEL_CACHE)


@pytest.fixture
def copy(ada: Path, tmp_path: Path) -> Path:
    """An Ada that a test may damage."""
    return shutil.copytree(ada, tmp_path / "ada")


@pytest.mark.model
def test_a_run_leaves_every_file_of_the_contract_and_no_other(ada: Path, config: TrainingConfig):
    assert {path.name for path in ada.iterdir()} == CONTRACT
    assert all(path.stat().st_size for path in ada.iterdir())
    assert config.output_dir.resolve() == ada
    assert {path.name for path in config.output_dir.parent.iterdir()} == {"ada_model", "runs"}


@pytest.mark.model
def test_the_manifests_hashes_are_the_files(ada: Path, config: TrainingConfig):
    manifest = read_manifest(ada)
    assert manifest.weights_sha256 == sha256(ada / "adapter_model.safetensors")
    assert manifest.template_sha256 == sha256(ada / "chat_template.jinja")
    assert manifest.dataset["journals"]["sha256"] == sha256(config.journal_path)


@pytest.mark.model
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


@pytest.mark.model
def test_a_finished_run_is_accepted(ada: Path, config: TrainingConfig):
    assert check_adapter(config.output_dir) == read_manifest(ada)


@pytest.mark.model
def test_the_template_beside_the_adapter_is_the_one_it_was_trained_with(ada: Path):
    assert (ada / "chat_template.jinja").read_text(encoding="utf-8") == template_for(PERSONA)
    assert (ada / "persona.toml").read_bytes() == DEFAULT_PERSONA.read_bytes()


@pytest.mark.model
def test_the_config_beside_the_adapter_makes_the_same_run_again(ada: Path, config: TrainingConfig):
    assert load_config(ada / "config.yaml", []) == config


@pytest.mark.model
def test_the_metrics_hold_each_step_and_the_held_out_loss_before_and_after(ada: Path):
    lines = [json.loads(line) for line in (ada / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], "loss" in line) for line in lines] == [
        (0, False),
        (1, True),
        (2, True),
        (2, False),
    ]
    manifest = read_manifest(ada)
    assert [line["eval_loss"] for line in lines[::3]] == [manifest.loss_before, manifest.loss_after]


@pytest.mark.model
def test_the_adapter_changes_every_layer_that_it_is_on(ada: Path):
    weights = load_file(ada / "adapter_model.safetensors")
    learned_parts = {name: weight for name, weight in weights.items() if "lora_B" in name}
    assert len(learned_parts) == 30 * 7  # SmolLM2's layers, and the linear parts of each
    assert [name for name, weight in learned_parts.items() if not weight.any()] == []


@pytest.mark.model
def test_everybody_may_read_what_a_run_leaves(ada: Path):
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in ada.iterdir())


@pytest.mark.model
def test_one_flipped_byte_of_the_weights_is_refused(copy: Path):
    weights = copy / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert refusal(copy) == f"{weights} is damaged (its hash differs): train again"


@pytest.mark.model
def test_an_edited_template_is_refused(copy: Path):
    template = copy / "chat_template.jinja"
    template.write_text(template.read_text().replace("Drew", "User"))
    assert refusal(copy).startswith(f"{template} is not the template that Ada was trained with")


@pytest.mark.model
def test_an_adapter_of_another_base_is_refused(copy: Path):
    edit(copy / "adapter_config.json", lambda adapter: adapter | {"base_model_name_or_path": "Qwen/Qwen3-8B"})
    said = refusal(copy)
    assert said.startswith(f"{copy / 'adapter_config.json'} is an adapter of 'Qwen/Qwen3-8B'")
    assert SMOLLM2 in said


@pytest.mark.model
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
    said = refusal(copy)
    assert name in said
    assert "is missing" in said


@pytest.mark.model
def test_a_manifest_of_another_schema_is_refused(copy: Path):
    edit(copy / "MANIFEST.json", lambda manifest: manifest | {"schema": 2})
    assert refusal(copy) == f"{copy / 'MANIFEST.json'} has schema 2, this Ada reads 1: train again"


@pytest.mark.model
@pytest.mark.parametrize(
    "change", [lambda manifest: manifest | {"colour": "red"}, lambda manifest: without(manifest, "seed")]
)
def test_a_manifest_with_other_fields_is_refused(copy: Path, change):
    edit(copy / "MANIFEST.json", change)
    assert refusal(copy).startswith(f"{copy / 'MANIFEST.json'} does not fit the schema")


@pytest.mark.model
def test_a_torn_manifest_is_refused(copy: Path):
    (copy / "MANIFEST.json").write_text((copy / "MANIFEST.json").read_text()[:-10])
    assert refusal(copy).startswith(f"{copy / 'MANIFEST.json'} is not valid JSON")


@pytest.mark.model
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


@pytest.mark.model
def test_the_card_beside_the_adapter_is_the_manifests(ada: Path):
    assert (ada / "README.md").read_text(encoding="utf-8") == model_card(read_manifest(ada))


def test_the_card_says_that_she_is_fictional_and_what_she_is_not_for():
    card = model_card(manifest())
    assert "**Ada is a fictional persona played by a language model.**" in card
    assert "no such person exists" in card
    assert "Out of scope: any use in which people are not told" in card


def test_the_card_tells_what_each_source_gave_and_the_loss():
    card = model_card(manifest())
    assert "| hippocorpus | 8 | 3 | 3 |" in card
    assert "Held-out loss: 3.142 before, 2.718 after." in card
    assert "LoRA rank 64, alpha 128" in card


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


def manifest(**changes: object) -> Manifest:
    values = {
        "run_id": "20261122-114502-9f3a",
        "created_at": "2026-11-22T11:45:02+00:00",
        "base_model": "Qwen/Qwen3-8B",
        "lora_rank": 64,
        "lora_alpha": 128,
        "user_name": "Drew",
        "assistant_name": "Ada",
        "template_sha256": "",
        "weights_sha256": "",
        "seed": 3407,
        "dataset": {"hippocorpus": {"asked": 8, "found": 3, "used": 3}},
        "versions": {},
        "timings_s": {},
        "peak_memory_gib": 1.0,
        "steps": 2,
        "loss_before": 3.14159,
        "loss_after": 2.71828,
    }
    return Manifest(**{**values, **changes})


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path):
    manifest().write(tmp_path)
    assert asdict(read_manifest(tmp_path)) == asdict(manifest())
    assert [path.name for path in tmp_path.iterdir()] == ["MANIFEST.json"]
