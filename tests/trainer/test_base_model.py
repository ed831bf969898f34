"""The base model: what is unknown or not here is told by name, and a package is converted once.

.venv/bin/python -m pytest tests/trainer/test_base_model.py
"""

import json
from pathlib import Path

import huggingface_hub
import pytest
import torch

from services.errors import ConfigError
from trainer.base_model import check_quantization, load_model, load_tokenizer, prepare, uses_bfloat16
from trainer.config import TrainingConfig

ROOT = Path(__file__).parents[2]
MODEL_CACHE = ROOT / ".cache" / "models"
SMOLLM2 = "package:smollm2-135m-instruct"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client reads HF_HUB_OFFLINE on import, which is before any fixture: set what it read."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def test_an_unknown_package_is_named_with_those_that_are_known(tmp_path: Path):
    with pytest.raises(ConfigError) as error:
        prepare("package:gpt-9", tmp_path / "models")
    assert str(error.value) == "model_name package:gpt-9 is unknown; known: smollm2-135m-instruct"
    assert not (tmp_path / "models").exists()


def test_a_missing_local_folder_is_named(tmp_path: Path):
    with pytest.raises(ConfigError) as error:
        prepare(str(tmp_path / "llama"), tmp_path)
    assert str(tmp_path / "llama") in str(error.value)
    assert "there is no config.json in" in str(error.value)


@pytest.mark.parametrize("name", ["./no/such/model", "../no/such/model", "~/no/such/model"])
def test_a_missing_folder_is_named_however_it_is_written(tmp_path: Path, name: str):
    with pytest.raises(ConfigError) as error:
        prepare(name, tmp_path)
    assert name in str(error.value)


def test_a_hub_id_is_handed_on_as_it_is(tmp_path: Path):
    assert prepare("Qwen/Qwen3-8B", tmp_path) == "Qwen/Qwen3-8B"


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("load", [load_tokenizer, lambda name: load_model(name, TrainingConfig())])
@pytest.mark.parametrize("name", ["ada-tests/no-such-model", "not//an/id"])
def test_an_unknown_hub_id_is_named_with_what_would_be_known(load, name: str):
    with pytest.raises(ConfigError) as error:
        load(name)
    assert f"model_name {name!r} can't be loaded" in str(error.value)
    assert "Give a Hugging Face id such as Qwen/Qwen3-8B, a folder, or package:" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_without_weights_is_named(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    location = prepare(str(tmp_path), tmp_path)
    with pytest.raises(ConfigError) as error:
        load_model(location, TrainingConfig())
    assert f"model_name {location!r} can't be loaded" in str(error.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a card that does NF4")
def test_nf4_without_a_card_is_refused_before_anything_is_fetched():
    with pytest.raises(ConfigError, match="quantization nf4 needs an NVIDIA card: set quantization=none"):
        check_quantization(TrainingConfig(quantization="nf4"))


@pytest.mark.parametrize(("dtype", "used"), [("bfloat16", True), ("float32", False)])
def test_a_dtype_that_is_set_is_used(dtype: str, used: bool):
    assert uses_bfloat16(TrainingConfig(dtype=dtype)) is used


def test_the_converted_tokenizer_knows_the_end_of_turn_as_one_token(smollm2_location: str):
    tokenizer = load_tokenizer(smollm2_location)
    (end,) = tokenizer.encode("<|im_end|>", add_special_tokens=False)
    assert tokenizer.decode([end]) == "<|im_end|>"
    assert end == tokenizer.eos_token_id


def test_a_package_is_converted_once(smollm2_location: str):
    before = {path.name: path.stat().st_mtime_ns for path in Path(smollm2_location).iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= before.keys()
    assert prepare(SMOLLM2, MODEL_CACHE) == smollm2_location
    assert {path.name: path.stat().st_mtime_ns for path in Path(smollm2_location).iterdir()} == before


def test_everybody_may_read_a_converted_model(smollm2_location: str):
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in Path(smollm2_location).iterdir())
