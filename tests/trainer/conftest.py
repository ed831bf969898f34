"""The four sources, written small: every test that mixes, runs or trains starts from these files."""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[..., dict[str, object]]
PACKAGED = "smollm2-135m-instruct"


@pytest.fixture(scope="session")
def tiny_cache(smollm2_location: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model cache in which SmolLM2 is a model of two small layers with random weights.

    It has SmolLM2's tokenizer and name: a run on it differs from a real one in nothing but its size.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    from trainer.base_model import load_tokenizer

    cache = tmp_path_factory.mktemp("models")
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    config = AutoConfig.from_pretrained(smollm2_location, **shape, **heads)
    AutoModelForCausalLM.from_config(config).save_pretrained(cache / PACKAGED)
    load_tokenizer(smollm2_location).save_pretrained(cache / PACKAGED)
    return cache


@pytest.fixture(scope="session")
def tiny_model(tiny_cache: Path) -> Path:
    """That model's folder."""
    return tiny_cache / PACKAGED


NAMES = (
    "apple basket bottle bridge bucket candle carpet chapel clock cupboard engine feather fiddle garden "
    "hammer jacket kettle ladder lantern letter mirror needle orchard parcel pillow river saddle shovel "
    "spoon suitcase teapot ticket tower umbrella valley violin wagon whistle window"
)
THINGS = NAMES.split()


@pytest.fixture(scope="session")
def write_sources() -> Write:
    """Writes so many samples of each source into a folder and returns the settings that name the files.

    Row n of a source tells "<source> n", so a sample's text says where it came from. No two are alike.
    """
    return _write_sources


def _write_sources(
    folder: Path, *, hippocorpus: int = 20, journals: int = 20, reddit: int = 20, conversations: int = 20
) -> dict[str, object]:
    folder.mkdir(parents=True, exist_ok=True)
    _write_csv(
        folder / "hippo.csv",
        ["AssignmentId", "memType", "story"],
        [[f"A{n}", "recalled", _telling("hippocorpus", n)] for n in range(hippocorpus)],
    )
    _write_csv(
        folder / "journals.csv",
        ["Answer", "Answer.t1.food.raw"],
        [[_telling("journals", n), "FALSE"] for n in range(journals)],
    )
    posts = [{"title": f"Post {n}", "selftext": _telling("reddit", n)} for n in range(reddit)]
    (folder / "reddit.jsonl").write_text("".join(f"{json.dumps(post)}\n" for post in posts), encoding="utf-8")
    talks = [
        {
            "conversations": [
                {"role": "user", "content": f"Question {n}: what did you find?"},
                {"role": "assistant", "content": _telling("conversations", n)},
            ]
        }
        for n in range(conversations)
    ]
    (folder / "talks.json").write_text(json.dumps(talks), encoding="utf-8")
    return {
        "hippocorpus_path": folder / "hippo.csv",
        "journal_path": folder / "journals.csv",
        "reddit_path": folder / "reddit.jsonl",
        "generated_data_path": folder / "talks.json",
    }


def _telling(source: str, n: int) -> str:
    """A few words in the first person that have little in common with any other's."""
    a, b, c, d, e, f, g, h = random.Random(f"{source} {n}").sample(THINGS, 8)
    return (
        f"This is {source} {n}. I carried my {a} and a {b} past the {c}, where I lost the {d} "
        f"and found a {e} under the {f}; so I hid my {g} behind the {h}."
    )


def _write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
