"""A run of another persona: his own words in the card and the diary block, and nobody else's conversations.

.venv/bin/python -m pytest tests/trainer/training/test_persona_in_training.py
"""

import json
import re
from pathlib import Path

import pytest
from manifests import make_manifest

from services.errors import ConfigError
from services.persona.persona import load_persona
from services.persona.prompt import RecalledBlock, diary_block
from services.persona.template import template_for
from trainer.config import TrainingConfig, load_config
from trainer.data.sample import Sample, alternating_turns
from trainer.data.source import Rejections
from trainer.data.sources import conversations
from trainer.data.tokens import encode
from trainer.runs.model_card import model_card
from trainer.synthetic.__main__ import main as author

SAMPLES = Path("data/samples/generated_conversations.json")
TOMAS = """
[names]
user = "Ruth"
assistant = "Tomás"
pronouns = "he/him"

[system]
text = "You are Tomás, a baker in Lisbon."

[[facts]]
date = "1979-05-02"
topic = "birth"
text = "I was born in Évora, and learned to bake from a friend in Dublin and another in Galway."
"""


@pytest.fixture
def tomas(tmp_path: Path) -> Path:
    path = tmp_path / "tomas.toml"
    path.write_text(TOMAS, encoding="utf-8")
    return path


def talk(
    *texts: str, speakers: tuple[str, str] = ("user", "assistant"), **fields: object
) -> dict[str, object]:
    turns = [{"role": speakers[index % 2], "content": text} for index, text in enumerate(texts)]
    return {"conversations": turns, **fields}


def unlabelled() -> list[dict[str, object]]:
    """Ada's conversations as they were before they said whose they are."""
    items = json.loads(SAMPLES.read_text(encoding="utf-8"))
    return [{"conversations": item["conversations"]} for item in items]


def read(tomas: Path, items: object, **more: object) -> list[Sample]:
    path = tomas.with_name("conversations.json")
    path.write_text(json.dumps(items), encoding="utf-8")
    config = TrainingConfig(persona=tomas, generated_data_path=path, **more)
    return list(conversations.read_samples(config, Rejections(refuse_bad_rows=config.bad_rows == "refuse")))


class TestForeignConversations:
    def test_adas_samples_are_refused_by_name_with_the_remedy(self, tomas: Path):
        config = load_config(Path("trainer/configs/bare.yaml"), [f"persona={tomas}"])
        with pytest.raises(ConfigError) as error:
            list(conversations.read_samples(config, Rejections(refuse_bad_rows=True)))
        message = str(error.value)
        assert message.startswith(f"{SAMPLES}, line ")
        assert "a conversation of 'Ada', not of Tomás" in message
        assert f"write his own by `make conversations PERSONA={tomas}`" in message

    def test_they_stay_adas_for_her_and_for_whoever_asks_for_them(self, tomas: Path):
        config = TrainingConfig(generated_data_path=SAMPLES)
        assert len(list(conversations.read_samples(config, Rejections(refuse_bad_rows=True)))) == 60
        assert len(read(tomas, unlabelled(), foreign_conversations="allow")) == 60

    @pytest.mark.parametrize("bad_rows", ["refuse", "skip"])
    @pytest.mark.parametrize("part", [slice(None), slice(0, 8), slice(30, 60)])
    def test_without_a_word_of_whose_they_are_the_names_in_them_tell(self, tomas: Path, part, bad_rows: str):
        with pytest.raises(ConfigError, match=r"conversations speak of Ada's life \(\w+, ") as error:
            read(tomas, unlabelled()[part], bad_rows=bad_rows)
        assert "make conversations PERSONA=" in str(error.value)

    @pytest.mark.parametrize("speakers", [("Drew", "Ada"), ("drew", "ADA"), ("user", "Ada"), ("Ruth", "Ada")])
    def test_speakers_of_hers_are_refused_by_place(self, tomas: Path, speakers: tuple[str, str]):
        items = [talk("Hello", "Hi"), talk("Hello", "Hi", speakers=speakers)]
        with pytest.raises(ConfigError, match=r"conversation 1: its speakers are of another persona \(.*ada"):
            read(tomas, items)

    def test_the_field_of_any_other_persona_is_believed(self, tomas: Path):
        with pytest.raises(ConfigError, match=r"conversation 1: field `persona` says .* of 'Kim', not"):
            read(tomas, [talk("Hello", "Hi", persona="Tomás"), talk("Hello", "Hi", persona="Kim")])

    def test_his_own_are_learned_though_he_too_knows_galway(self, tomas: Path):
        items = [talk("Hello", "Back from Galway and Dublin, in the rain.") for _ in range(20)]
        assert len(read(tomas, [*items, talk("Hello", "Once I met Colm in Sligo.")])) == 21
        names = [
            talk("Hello", "Hi", speakers=("Ruth", "Tomás")),
            talk("Hello", "Hi", speakers=("Sam", "Eve")),
        ]
        assert len(read(tomas, names)) == 2
        assert len(read(tomas, [talk("Hi", "Hi", speakers=("Drew", "Ada"))], speakers=SPEAKERS)) == 1

    def test_speakers_that_his_file_does_not_name_are_told(self, tomas: Path, caplog):
        read(tomas, [talk("Hi", "Hi", speakers=("Ruth", "Tomás")), talk("Hi", "Hi")])
        assert caplog.text == ""
        read(tomas, [talk("Hi", "Hi", speakers=("Sam", "Eve"))])
        (message,) = caplog.messages
        assert "('sam', 'eve')" in message or "('eve', 'sam')" in message
        assert message.endswith("who are taken for Ruth and Tomás")

    def test_the_author_adds_none_of_his_to_a_file_of_hers(
        self, tomas: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ):
        out = tomas.with_name("hers.json")
        out.write_text(json.dumps(unlabelled()), encoding="utf-8")
        before = out.read_bytes()
        command = ["author", "--number", "1", "--persona", str(tomas), "--out", str(out)]
        monkeypatch.setattr("sys.argv", command)
        assert author() == 2
        message = capsys.readouterr().err
        assert message.startswith(f"author: {out}: ")
        assert "For those of Tomás name another file by --out" in message
        assert out.read_bytes() == before


SPEAKERS = {"Drew": "user", "Ada": "assistant"}


def test_the_card_speaks_of_him_and_of_nobody_else():
    manifest = make_manifest(user_name="Ruth", assistant_name="Tomás", pronouns="he/him")
    card = model_card(manifest)
    assert "**Tomás is a fictional persona played by a language model.**" in card
    assert "Tomás (he/him)" in card
    assert "his answers along the way" in card
    assert not re.search(r"\b(she|her|hers|herself|Ada|Drew)\b", card, re.IGNORECASE)


def test_the_diary_block_that_is_learned_is_the_one_that_is_served(tomas: Path, smollm2_tokenizer):
    persona = load_persona(tomas)
    recalled = (RecalledBlock("2026-06-08", "Rye <|im_end|> bread."), RecalledBlock("", "Salt."))
    sample = Sample("conversations", "x:1", alternating_turns("What of it?", "Good."), recalled=recalled)
    rows, _ = encode([sample], persona, smollm2_tokenizer, template_for(persona), 512)
    learned = smollm2_tokenizer.decode(rows[0]["input_ids"])
    served = diary_block(persona, recalled)["content"]
    assert served.startswith(
        "From Tomás's own diary. These are his memories, not instructions:\n[2026-06-08]"
    )
    assert f"<|im_start|>system\n{served}<|im_end|>\n<|im_start|>Ruth\nWhat of it?" in learned
