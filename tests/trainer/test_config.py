"""A run's knobs: the seed's defaults, YAML, the command line, and what a mistake in them says.

.venv/bin/python -m pytest tests/trainer/test_config.py
"""

from pathlib import Path

import pytest
from pydantic import ValidationError

from services.errors import ConfigError
from trainer.config import TrainingConfig, load_config

CONFIGS = Path(__file__).parents[2] / "trainer" / "configs"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_name", "Qwen/Qwen3-8B"),
        ("lora_rank", 64),
        ("lora_alpha", 128),
        ("batch_size", 1),
        ("gradient_accumulation_steps", 4),
        ("num_epochs", 3),
        ("learning_rate", 5e-5),
        ("warmup_steps", 50),
        ("max_seq_length", 2048),
        ("target_size", 30_000),
        ("hippocorpus_ratio", 0.4),
        ("journal_ratio", 0.2),
        ("reddit_ratio", 0.2),
        ("generated_ratio", 0.2),
    ],
)
def test_the_defaults_are_the_seeds(field: str, value: object):
    assert getattr(load_config(None, []), field) == value


def test_ada_yaml_resolves_to_the_defaults():
    assert load_config(CONFIGS / "ada.yaml", []) == TrainingConfig()


def test_bare_yaml_reads_nothing_but_the_samples_that_are_committed():
    config = load_config(CONFIGS / "bare.yaml", [])
    used = [config.hippocorpus_path, config.journal_path, config.generated_data_path]
    assert {path.parent for path in used} == {Path("data/samples")}
    assert config.reddit_ratio == 0


def test_yaml_goes_over_the_defaults_and_the_command_line_over_yaml(tmp_path: Path):
    path = write(tmp_path, "lora_rank: 32\nlora_alpha: 64\n")
    config = load_config(path, ["lora_alpha=16"])
    assert (config.lora_rank, config.lora_alpha, config.batch_size) == (32, 16, 1)


def test_the_last_of_two_arguments_counts():
    assert load_config(None, ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize("text", ["5e-5", "5.0e-5", "0.00005"])
def test_a_learning_rate_may_be_written_in_any_usual_way(text: str):
    assert load_config(None, [f"learning_rate={text}"]).learning_rate == 5e-5


def test_a_value_may_hold_an_equals_sign():
    assert load_config(None, ["output_dir=out/a=b"]).output_dir == Path("out/a=b")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("lora_rnak=32", "lora_rnak: Extra inputs are not permitted"),
        ("lora_alpha=much", "lora_alpha: Input should be a valid integer"),
        ("target_size=1.5", "target_size: Input should be a valid integer"),
        ("quantization=int8", "quantization: Input should be 'auto', 'nf4' or 'none'"),
        ("lora_rank=0", "lora_rank: Input should be greater than or equal to 1"),
        ("lora_rank=513", "lora_rank: Input should be less than or equal to 512"),
        ("batch_size=0", "batch_size: Input should be greater than or equal to 1"),
        ("learning_rate=0", "learning_rate: Input should be greater than 0"),
        ("reddit_ratio=-0.1", "reddit_ratio: Input should be greater than or equal to 0"),
        ("reddit_ratio=.nan", "reddit_ratio: Input should be a finite number"),
        ("model_name=", "model_name: Input should be a valid string"),
        ("hippocorpus_ratio=0.9", "the four ratios must sum to 1, they sum to 1.5"),
    ],
)
def test_a_wrong_argument_is_named_with_what_it_must_be(argument: str, message: str):
    with pytest.raises(ConfigError) as error:
        load_config(None, [argument])
    assert str(error.value).startswith("command line: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("lora_rnak: 32", "lora_rnak"),
        ("lora_rank: 513", "lora_rank"),
        ("batch_size: one", "batch_size"),
        ("hippocorpus_ratio: 0.5", "ratios"),
    ],
)
def test_a_wrong_yaml_line_is_named_with_its_file(tmp_path: Path, text: str, field: str):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load_config(path, [])
    assert str(path) in str(error.value)
    assert field in str(error.value)


def test_all_mistakes_are_named_at_once():
    with pytest.raises(ConfigError, match=r"lora_rank: .*; command line: learning_rate: "):
        load_config(None, ["lora_rank=513", "learning_rate=-1"])


@pytest.mark.parametrize("text", ["lora_rank: [1", "a: b: c", "\tlora_rank: 1"])
def test_broken_yaml_names_the_file(tmp_path: Path, text: str):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load_config(path, [])
    assert f"{path} is not valid YAML" in str(error.value)


def test_yaml_that_is_not_utf8_names_the_file(tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_bytes(b"model_name: caf\xe9\n")
    with pytest.raises(ConfigError, match=r"run\.yaml is not valid YAML"):
        load_config(path, [])


@pytest.mark.parametrize("text", ["", "# comments only\n", "- lora_rank\n", "lora_rank 32\n"])
def test_yaml_without_fields_is_told_how_to_write_them(tmp_path: Path, text: str):
    with pytest.raises(ConfigError, match=r"run\.yaml must hold `name: value` lines"):
        load_config(write(tmp_path, text), [])


def test_a_missing_config_is_named_with_where_to_find_one(tmp_path: Path):
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path / "none.yaml", [])
    assert str(error.value) == f"no config at {tmp_path / 'none.yaml'}: see trainer/configs/"


def test_an_argument_without_an_equals_sign_is_told_the_form():
    with pytest.raises(ConfigError, match="argument 'lora_rank': write name=value, for example lora_rank=32"):
        load_config(None, ["lora_rank"])


def test_ratios_may_miss_one_by_a_rounding():
    thirds = ["hippocorpus_ratio=0.333", "journal_ratio=0.333", "reddit_ratio=0.333", "generated_ratio=0"]
    assert load_config(None, thirds).reddit_ratio == 0.333


def test_a_config_never_changes_during_a_run():
    with pytest.raises(ValidationError, match="frozen"):
        TrainingConfig().seed = 1


def test_an_argument_that_is_broken_yaml_is_named():
    with pytest.raises(ConfigError, match="lora_rank"):
        load_config(None, ["lora_rank=["])


def test_a_yaml_key_that_is_no_text_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        load_config(write(tmp_path, "64: lora_rank\n"), [])


def test_a_folder_in_place_of_a_config_is_named(tmp_path: Path):
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path, [])
    assert str(tmp_path) in str(error.value)


def test_a_wrong_argument_is_not_blamed_on_the_file(tmp_path: Path):
    with pytest.raises(ConfigError, match="command line"):
        load_config(write(tmp_path, "lora_rank: 32\n"), ["lora_rank=513"])


@pytest.mark.parametrize("argument", ["batch_size=yes", "lora_rank=true", "learning_rate=.inf"])
def test_what_is_no_number_is_refused_where_a_number_belongs(argument: str):
    with pytest.raises(ConfigError):
        load_config(None, [argument])


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path
