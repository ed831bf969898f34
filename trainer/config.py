"""One training run's knobs: defaults, then a YAML file, then `name=value` from the command line."""

from pathlib import Path
from typing import Literal, get_args

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
    quantization: Literal["auto", "nf4", "none"] = "auto"  # auto: what is fastest in the memory at hand
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"  # auto: bfloat16 where the hardware has it

    # LoRA, on all linear layers
    lora_rank: int = Field(64, ge=1, le=512)  # vLLM serves no higher one
    lora_alpha: int = Field(128, ge=1)
    lora_dropout: float = Field(0.0, ge=0, lt=1)

    # optimisation; one step learns from batch_size × gradient_accumulation_steps rows, on however many cards
    batch_size: int = Field(1, ge=1)  # rows of max_seq_length tokens when packing
    gradient_accumulation_steps: int = Field(4, ge=1)
    num_epochs: float = Field(3, gt=0)
    max_steps: int = Field(-1, ge=-1)  # -1: as many as num_epochs makes
    learning_rate: float = Field(5e-5, gt=0)  # at the top of a cosine
    warmup_steps: int = Field(50, ge=0)
    packing: bool = True
    seed: int = 3407

    # speed and memory; none of these changes what is learned
    memory_gib: float | None = Field(None, gt=0)  # plan for so much memory; none: what the card has
    rows_at_once: int | None = Field(None, ge=1)  # none: as many of a step's rows as fit
    gradient_checkpointing: bool | None = None  # none: only where memory asks for it
    sharding: Literal["ddp", "fsdp"] = "ddp"  # several cards: each holds the model, or each a part of it

    # watching
    evaluations: int = Field(10, ge=1)  # times that held-out loss is measured during the run
    checkpoints: int = Field(20, ge=1)  # times that the run can be taken up again from
    keep: Literal["best", "last"] = "best"  # which adapter is served; the other is kept beside it
    questions: tuple[str, ...] = (
        "Tell me about yourself.",
        "What did you do this morning?",
        "Do you remember your grandmother?",
    )  # asked at every evaluation; the answers lie in answers.jsonl
    answer_tokens: int = Field(80, ge=1)
    report_to: tuple[Literal["wandb", "tensorboard"], ...] = ()
    # switch output_dir to the run when it is complete; auto: unless it is worse than its base, or of another
    # persona than the one that is served
    publish: bool | Literal["auto"] = "auto"

    # data: how much of what
    target_size: int = Field(30_000, ge=1)  # samples, all sources together
    eval_size: int = Field(64, ge=1)  # of these, held out to measure loss before, during and after
    hippocorpus_ratio: float = Field(0.4, ge=0, le=1)
    journal_ratio: float = Field(0.2, ge=0, le=1)
    reddit_ratio: float = Field(0.2, ge=0, le=1)
    generated_ratio: float = Field(0.2, ge=0, le=1)
    max_repeats: int = Field(3, ge=1)  # how often one sample of a short source may stand in the mixture
    allow_missing: bool = False  # without a source's file, share its ratio among the others
    bad_rows: Literal["refuse", "skip"] = "refuse"  # skip: count them and go on

    # data: where it lies
    hippocorpus_path: Path = Path("data/hippoCorpusV2.csv")  # or hcV3-stories.csv, or the official zip
    hippocorpus_mem_types: tuple[Literal["recalled", "imagined", "retold"], ...] = ()  # none named: all
    journal_path: Path = Path("data/journal_entries.csv")
    reddit_path: Path | None = None  # a JSONL, CSV or Parquet file in the place of the hub
    reddit_dataset: str = "SocialGrep/one-million-reddit-confessions"  # streamed from the hub
    reddit_split: str = "train"
    reddit_fields: dict[Literal["text", "title", "subreddit", "nsfw"], str] = Field(default_factory=dict)
    reddit_max_rows: int = Field(300_000, ge=1)  # posts read at most, of a stream that may be endless
    reddit_first_person: float = Field(0.03, ge=0, le=1)  # share of the words that is I, me, my …
    generated_data_path: Path = Path("data/generated_conversations.json")
    # conversations of another persona than the one that is trained: refuse them by name, or learn from them
    foreign_conversations: Literal["refuse", "allow"] = "refuse"
    speakers: dict[str, Literal["user", "assistant"]] = Field(default_factory=dict)  # names beyond the usual
    ignored_turn_keys: tuple[str, ...] = ()  # keys of turns, beyond the usual, that change nothing

    # data: what is fit to learn from
    min_words: int = Field(8, ge=1)  # in a telling
    max_words: int = Field(1200, ge=1)
    language: str = Field("en", pattern="^([a-z]{2})?$")  # ISO 639-1; empty: any
    scrub_pii: bool = True  # e-mail addresses, telephone numbers, links … become such as belong to nobody
    near_duplicates: float = Field(0.8, gt=0, le=1)  # Jaccard similarity of word triples; 1: exact ones only
    diary_share: float = Field(0.1, ge=0, le=1)  # samples that carry a diary block, as serving writes it
    turn_words: int = Field(250, ge=20)  # a longer telling is split into turns at paragraph borders

    # places
    persona: Path = Path("services/persona/persona.toml")
    output_dir: Path = Path("outputs/ada_model")  # the link; runs lie in `runs/` beside it
    log_dir: Path = Path("logs")

    @model_validator(mode="before")
    @classmethod
    def _yes_is_no_number(cls, values: dict[str, object]) -> dict[str, object]:
        for name, value in values.items():
            field = cls.model_fields.get(name)
            if (
                isinstance(value, bool)
                and field
                and bool not in (field.annotation, *get_args(field.annotation))
            ):
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
    given = dict(map(argument, overrides))
    values = (read_yaml(path) if path else {}) | given
    try:
        return TrainingConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_complaint(e, path, given) for e in error.errors())) from None


def _complaint(error: ErrorDetails, path: Path | None, given: dict[str, object]) -> str:
    name = ".".join(map(str, error["loc"]))
    origin = "command line" if name in given or not path else path
    return f"{origin}: {name or 'config'}: {error['msg']}"


def origin(path: Path | None, overrides: list[str]) -> str:
    """Where a run's config comes from, in words."""
    return ", and ".join([str(path or "defaults"), *([", ".join(overrides)] if overrides else [])])


def argument(text: str) -> tuple[str, object]:
    """A name and its value, read as YAML, from `name=value`. Raises ConfigError for what is neither."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"argument {text!r}: write name=value, for example lora_rank=32")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"argument {text!r}: what stands behind = is not valid YAML") from None


def read_yaml(path: Path) -> dict[object, object]:
    """The fields of a YAML file. Raises ConfigError that names the file and what is wrong with it."""
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
