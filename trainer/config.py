"""One training run's knobs: defaults, then a YAML file, then `name=value` from the command line."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from services.errors import ConfigError


class TrainingConfig(BaseModel):
    """An aggressive LoRA over human-written autobiography. Every field is a knob of one run."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    # model
    model_name: str = "Qwen/Qwen3-8B"
    max_seq_length: int = Field(2048, ge=64)  # tokens
    quantization: Literal["auto", "nf4", "none"] = "auto"  # auto: nf4 on CUDA, none on the CPU
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"  # auto: bfloat16 where the hardware has it

    # LoRA, on all linear layers
    lora_rank: Literal[1, 8, 16, 32, 64, 128, 256] = 64  # ranks that vLLM can serve
    lora_alpha: int = Field(128, ge=1)
    lora_dropout: float = Field(0.0, ge=0, lt=1)

    # optimisation
    batch_size: int = Field(1, ge=1)  # rows of max_seq_length tokens when packing
    gradient_accumulation_steps: int = Field(4, ge=1)
    num_epochs: float = Field(3, gt=0)
    max_steps: int = Field(-1, ge=-1)  # -1: as many as num_epochs makes
    learning_rate: float = Field(5e-5, gt=0)  # at the top of a cosine
    warmup_steps: int = Field(50, ge=0)
    gradient_checkpointing: bool = True
    packing: bool = True
    seed: int = 3407

    # data
    target_size: int = Field(30_000, ge=1)  # samples, all sources together
    eval_size: int = Field(64, ge=1)  # of these, held out to measure loss before and after
    hippocorpus_ratio: float = Field(0.4, ge=0, le=1)
    journal_ratio: float = Field(0.2, ge=0, le=1)
    reddit_ratio: float = Field(0.2, ge=0, le=1)
    generated_ratio: float = Field(0.2, ge=0, le=1)
    hippocorpus_path: Path = Path("data/hippoCorpusV2.csv")
    journal_path: Path = Path("data/journal_entries.csv")
    reddit_path: Path = Path("data/reddit.jsonl")
    generated_data_path: Path = Path("data/generated_conversations.json")

    # places
    persona: Path = Path("services/persona/persona.toml")
    output_dir: Path = Path("outputs/ada_model")  # the link; runs lie in `runs/` beside it

    @model_validator(mode="before")
    @classmethod
    def _yes_is_no_number(cls, values: dict[str, object]) -> dict[str, object]:
        for name, value in values.items():
            field = cls.model_fields.get(name)
            if isinstance(value, bool) and field and field.annotation is not bool:
                raise ValueError(f"{name} is {value}, which is no value for it")
        return values

    @field_validator("max_steps")
    @classmethod
    def _some_steps(cls, steps: int) -> int:
        if steps == 0:
            raise ValueError("0 steps teach nothing: give a number, or -1 for as many as num_epochs makes")
        return steps

    @model_validator(mode="after")
    def _ratios_sum_to_one(self) -> "TrainingConfig":
        total = self.hippocorpus_ratio + self.journal_ratio + self.reddit_ratio + self.generated_ratio
        if abs(total - 1) > 0.01:
            raise ValueError(f"the four ratios must sum to 1, they sum to {total:g}")
        return self


def load_config(path: Path | None, overrides: list[str]) -> TrainingConfig:
    """Read a run's config: defaults ← YAML ← overrides such as `lora_rank=32`.

    Raises ConfigError that names the file or argument, the field and what it must be.
    """
    given = dict(map(_argument, overrides))
    values = (_read_yaml(path) if path else {}) | given
    try:
        return TrainingConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_complaint(e, path, given) for e in error.errors())) from None


def _complaint(error: ErrorDetails, path: Path | None, given: dict[str, object]) -> str:
    name = ".".join(map(str, error["loc"]))
    origin = "command line" if name in given or not path else path
    return f"{origin}: {name or 'config'}: {error['msg']}"


def _argument(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"argument {text!r}: write name=value, for example lora_rank=32")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"argument {text!r}: what stands behind = is not valid YAML") from None


def _read_yaml(path: Path) -> dict[object, object]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no config at {path}: see trainer/configs/") from None
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold `name: value` lines")
    return values
