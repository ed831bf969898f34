"""The settings of a training run: defaults, then a YAML file, then `name=value` arguments."""

from pathlib import Path
from typing import Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from services.errors import ConfigError


class TrainingConfig(BaseModel):
    """An aggressive LoRA over human-written autobiography. Every field is a setting of one run."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    # model
    model_name: str = "Qwen/Qwen3-8B"
    max_seq_length: int = Field(2048, ge=64)  # tokens
    quantization: Literal["auto", "nf4", "none"] = "auto"  # auto: the fastest that fits in memory
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"  # auto: bfloat16 where the hardware has it

    # LoRA, on all linear layers
    lora_rank: int = Field(64, ge=1, le=512)  # vLLM serves no higher rank
    lora_alpha: int = Field(128, ge=1)
    lora_dropout: float = Field(0.0, ge=0, lt=1)

    # optimisation; one step learns from batch_size × gradient_accumulation_steps rows, on any number of GPUs
    batch_size: int = Field(1, ge=1)  # rows of max_seq_length tokens when packing
    gradient_accumulation_steps: int = Field(4, ge=1)
    num_epochs: float = Field(3, gt=0)
    max_steps: int = Field(-1, ge=-1)  # -1: as many as num_epochs takes
    learning_rate: float = Field(5e-5, gt=0)  # peak of the cosine schedule
    warmup_steps: int = Field(50, ge=0)
    packing: bool = True
    seed: int = 3407

    # speed and memory; none of these changes what is learned
    memory_gib: float | None = Field(None, gt=0)  # memory to plan for; none: all that the GPU has
    rows_at_once: int | None = Field(None, ge=1)  # none: as many of a step's rows as fit
    gradient_checkpointing: bool | None = None  # none: only if memory requires it
    sharding: Literal["ddp", "fsdp"] = "ddp"  # ddp: every GPU holds the model; fsdp: a part of it

    # evaluations and checkpoints
    evaluations: int = Field(10, ge=1)  # number of times that held-out loss is measured
    checkpoints: int = Field(20, ge=1)  # number of points from which the run can be resumed
    keep: Literal["best", "last"] = "best"  # which adapter is served; the run keeps the other one too
    questions: tuple[str, ...] = (
        "Tell me about yourself.",
        "What did you do this morning?",
        "Do you remember your grandmother?",
    )  # asked at every evaluation; the answers are written to answers.jsonl
    answer_tokens: int = Field(80, ge=1)
    report_to: tuple[Literal["wandb", "tensorboard"], ...] = ()
    # switch output_dir to the run when it is complete; auto: unless it is worse than its base, or of another
    # persona than the one that is served
    publish: bool | Literal["auto"] = "auto"

    # data: amounts
    target_size: int = Field(30_000, ge=1)  # samples, all sources together
    eval_size: int = Field(64, ge=1)  # of these, held out to measure loss before, during and after training
    hippocorpus_ratio: float = Field(0.4, ge=0, le=1)
    journal_ratio: float = Field(0.2, ge=0, le=1)
    reddit_ratio: float = Field(0.2, ge=0, le=1)
    generated_ratio: float = Field(0.2, ge=0, le=1)
    max_repeats: int = Field(3, ge=1)  # how often a sample of a short source may appear in the mixture
    allow_missing: bool = False  # without a source's file, share its ratio among the others
    bad_rows: Literal["refuse", "skip"] = "refuse"  # skip: count them and continue

    # data: locations
    hippocorpus_path: Path = Path("data/hippoCorpusV2.csv")  # or hcV3-stories.csv, or the official zip
    hippocorpus_mem_types: tuple[Literal["recalled", "imagined", "retold"], ...] = ()  # empty: all
    journal_path: Path = Path("data/journal_entries.csv")
    reddit_path: Path | None = None  # a JSONL, CSV or Parquet file instead of the hub
    reddit_dataset: str = "SocialGrep/one-million-reddit-confessions"  # streamed from the hub
    reddit_split: str = "train"
    reddit_fields: dict[Literal["text", "title", "subreddit", "nsfw"], str] = Field(default_factory=dict)
    reddit_max_rows: int = Field(300_000, ge=1)  # maximum number of posts read; the stream may be endless
    reddit_first_person: float = Field(0.03, ge=0, le=1)  # minimum share of the words I, me, my …
    generated_data_path: Path = Path("data/generated_conversations.json")
    # conversations of another persona than the trained one: refuse them by name, or learn from them
    foreign_conversations: Literal["refuse", "allow"] = "refuse"
    speakers: dict[str, Literal["user", "assistant"]] = Field(default_factory=dict)  # besides the usual ones
    ignored_turn_keys: tuple[str, ...] = ()  # keys of turns to ignore, in addition to the usual ones

    # data: filters
    min_words: int = Field(8, ge=1)  # of a narrative
    max_words: int = Field(1200, ge=1)
    language: str = Field("en", pattern="^([a-z]{2})?$")  # ISO 639-1; empty: any
    scrub_pii: bool = True  # replace e-mail addresses, telephone numbers, links … by stand-ins
    near_duplicates: float = Field(0.8, gt=0, le=1)  # Jaccard similarity of word triples; 1: exact ones only
    diary_share: float = Field(0.1, ge=0, le=1)  # share of samples with a diary block, as in serving
    turn_words: int = Field(250, ge=20)  # a longer narrative is split into turns at paragraphs

    # paths
    persona: Path = Path("services/persona/persona.toml")
    output_dir: Path = Path(
        "outputs/ada_model"
    )  # a link to the published run; runs are in `runs/` next to it
    log_dir: Path = Path("logs")

    @model_validator(mode="before")
    @classmethod
    def _reject_booleans(cls, values: dict[str, object]) -> dict[str, object]:
        for name, value in values.items():
            field = cls.model_fields.get(name)
            if (
                isinstance(value, bool)
                and field
                and bool not in (field.annotation, *get_args(field.annotation))
            ):
                raise ValueError(f"{name} is {value}, which is not a valid value")
        return values

    @field_validator("max_steps")
    @classmethod
    def _reject_zero_steps(cls, steps: int) -> int:
        if steps == 0:
            raise ValueError("0 steps train nothing: give a number, or -1 for as many as num_epochs takes")
        return steps

    @model_validator(mode="after")
    def _ratios_sum_to_one(self) -> "TrainingConfig":
        total = self.hippocorpus_ratio + self.journal_ratio + self.reddit_ratio + self.generated_ratio
        if abs(total - 1) > 0.01:
            raise ValueError(f"the four ratios must sum to 1, they sum to {total:g}")
        return self


def load_config(path: Path | None, overrides: list[str]) -> TrainingConfig:
    """Load a run's config: defaults, then YAML, then overrides such as `lora_rank=32`.

    Raises ConfigError, naming the file or argument and the field, when a value is invalid.
    """
    overridden = dict(map(argument, overrides))
    values = (read_yaml(path) if path else {}) | overridden
    try:
        return TrainingConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_complaint(e, path, overridden) for e in error.errors())) from None


def _complaint(error: ErrorDetails, path: Path | None, overridden: dict[str, object]) -> str:
    name = ".".join(map(str, error["loc"]))
    origin = "command line" if name in overridden or not path else path
    return f"{origin}: {name or 'config'}: {error['msg']}"


def origin(path: Path | None, overrides: list[str]) -> str:
    """Where a run's config comes from, in words."""
    return ", and ".join([str(path or "defaults"), *([", ".join(overrides)] if overrides else [])])


def argument(text: str) -> tuple[str, object]:
    """Parse `name=value` into a name and a YAML value. Raises ConfigError for any other text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"argument {text!r}: write name=value, for example lora_rank=32")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"argument {text!r}: the text after = is not valid YAML") from None


def read_yaml(path: Path) -> dict[object, object]:
    """Read the fields of a YAML file. Raises ConfigError when it can't be read or holds no fields."""
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
