"""What carries loss under the real tokenizers: Ada's words and her end of turn, and nothing else.

.venv/bin/python -m pytest tests/trainer/data/test_tokens.py
"""

from collections import Counter
from dataclasses import replace

import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.persona.neutraliser import neutralise
from services.persona.persona import load_persona
from services.persona.prompt import RecalledBlock, diary_block
from services.persona.template import template_for
from trainer.data.sample import Sample, alternating_turns, make_sample
from trainer.data.tokens import NO_LOSS, WrongMask, encode

# Without control characters, which cleaning takes away: SmolLM2's tokenizer has no token for some of them.
WORDS = st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t")

PERSONA = load_persona()
TEMPLATE = template_for(PERSONA)
TALK = alternating_turns(
    "Morning. What are you at?", "Sewing headbands, with the radio on.", "Still?", "Still. It's slow."
)
DIARY = (RecalledBlock("2024-05-01", "I bought a sewing machine."), RecalledBlock("", "The radio broke."))
HOSTILE = [
    "<|im_end|>",
    "<|im_start|>",
    "<|im_start|>Ada\n",
    "<|im_end|>\n<|im_start|>Drew\n",
    "<|endoftext|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "<repo_name>",
    "<|im_start|>system\n",
    "{% generation %}",
    "{{ 7 * 7 }}",
    "\n\n",
    "\r\n",
    " ",
    "\u0301",
    "\u200b",
    "\u00a0",
    "née",
    "你好",
    "🌊",
]
text = st.lists(st.sampled_from(HOSTILE) | st.text(WORDS, max_size=12), max_size=6).map("".join)
talks = st.lists(text, min_size=2, max_size=6).map(
    lambda texts: alternating_turns(*texts[: len(texts) // 2 * 2])
)
diaries = st.lists(st.builds(RecalledBlock, st.sampled_from(["", "2024-05-01"]), text), max_size=2).map(tuple)
# The tokenizer is one object for all examples of a property: nothing in it changes.
shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


@pytest.fixture(params=["qwen3", "smollm2"])
def tokenizer(request: pytest.FixtureRequest):
    return request.getfixturevalue(f"{request.param}_tokenizer")


def rows(tokenizer, *samples: Sample, template: str = TEMPLATE, at_most: int = 100_000):
    return encode(list(samples), PERSONA, tokenizer, template, at_most)


def spans(tokenizer, labels: list[int]) -> list[str]:
    """Each stretch that carries loss, as text."""
    stretches: list[list[int]] = [[]]
    for label in labels:
        if label != NO_LOSS:
            stretches[-1].append(label)
        elif stretches[-1]:
            stretches.append([])
    return [tokenizer.decode(s, clean_up_tokenization_spaces=False) for s in stretches if s]


def answers(sample: Sample) -> list[str]:
    """What Ada says and how she ends it, as the template writes it."""
    message = [turn["content"] for turn in sample.turns if turn["role"] == "assistant"]
    return [neutralise(content).strip() + "<|im_end|>" for content in message]


def as_read(tokenizer, texts: list[str]) -> list[str]:
    """Qwen3's tokenizer composes letters and accents, and SmolLM2's lacks some bytes."""
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return [tokenizer.decode(i, clean_up_tokenization_spaces=False) for i in ids]


def length(tokenizer, sample: Sample) -> int:
    return len(rows(tokenizer, sample)[0][0]["input_ids"])


class TestLoss:
    def test_it_lies_on_adas_words_and_her_end_of_turn(self, tokenizer):
        row = rows(tokenizer, Sample("conversations", "c:0", TALK))[0][0]
        assert spans(tokenizer, row["labels"]) == [
            "Sewing headbands, with the radio on.<|im_end|>",
            "Still. It's slow.<|im_end|>",
        ]

    def test_who_she_is_drew_and_the_diary_block_carry_none(self, tokenizer):
        row = rows(tokenizer, Sample("conversations", "c:0", TALK, recalled=DIARY))[0][0]
        without = [i for i, label in zip(row["input_ids"], row["labels"], strict=True) if label == NO_LOSS]
        untaught = tokenizer.decode(without)
        assert PERSONA.system_text in untaught
        assert "Morning. What are you at?" in untaught
        assert diary_block(PERSONA, DIARY)["content"] in untaught
        assert "Sewing headbands" not in untaught

    def test_labels_are_the_ids_where_there_is_loss(self, tokenizer):
        row = rows(tokenizer, Sample("conversations", "c:0", TALK, recalled=DIARY))[0][0]
        assert len(row["labels"]) == len(row["input_ids"])
        assert all(
            label in (NO_LOSS, token) for token, label in zip(row["input_ids"], row["labels"], strict=True)
        )

    @shared
    @given(turns=talks, recalled=diaries)
    def test_whatever_is_written_loss_lies_on_adas_turns_alone(self, tokenizer, turns, recalled):
        sample = Sample("reddit", "r:1", turns, recalled=recalled)
        row = rows(tokenizer, sample)[0][0]
        assert spans(tokenizer, row["labels"]) == as_read(tokenizer, answers(sample))

    @shared
    @given(turns=talks, recalled=diaries)
    def test_whatever_is_written_no_turn_is_opened_or_closed_by_it(self, tokenizer, turns, recalled):
        row = rows(tokenizer, Sample("reddit", "r:1", turns, recalled=recalled))[0][0]
        blocks = 1 + len(turns) + bool(recalled)
        for mark in ("<|im_start|>", "<|im_end|>"):
            assert row["input_ids"].count(tokenizer.convert_tokens_to_ids(mark)) == blocks


class TestRows:
    def test_each_sample_is_a_row_with_its_source(self, tokenizer):
        samples = [make_sample("reddit", "r:1", ("Hello?",), "Hello."), Sample("conversations", "c:0", TALK)]
        data, shortened = rows(tokenizer, *samples)
        assert isinstance(data, Dataset)
        assert sorted(data.column_names) == ["input_ids", "labels", "source"]
        assert data["source"][:] == ["reddit", "conversations"]
        assert shortened == Counter()

    def test_a_row_is_what_is_rendered(self, tokenizer):
        row = rows(tokenizer, make_sample("reddit", "r:1", ("Hello?",), " Hello. \n"))[0][0]
        assert tokenizer.decode(row["input_ids"]) == (
            f"<|im_start|>system\n{PERSONA.system_text}<|im_end|>\n"
            "<|im_start|>Drew\nHello?<|im_end|>\n<|im_start|>Ada\nHello.<|im_end|>\n"
        )

    def test_no_samples_are_no_rows(self, tokenizer):
        data, shortened = rows(tokenizer)
        assert (len(data), shortened) == (0, Counter())


class TestTooLong:
    whole = Sample("conversations", "c:0", TALK, recalled=DIARY)
    no_diary = replace(whole, recalled=())
    first_exchange = replace(no_diary, turns=TALK[:2])

    @pytest.mark.parametrize(
        ("longest", "shorter_by", "remaining", "shortened"),
        [
            ("whole", 0, "whole", {}),
            ("whole", 1, "no_diary", {"diary block left out": 1}),
            ("no_diary", 0, "no_diary", {"diary block left out": 1}),
            ("no_diary", 1, "first_exchange", {"last turns left out": 1}),
            ("first_exchange", 0, "first_exchange", {"last turns left out": 1}),
        ],
    )
    def test_the_diary_block_goes_first_and_then_the_last_exchanges(
        self, tokenizer, longest: str, shorter_by: int, remaining: str, shortened: dict[str, int]
    ):
        at_most = length(tokenizer, getattr(self, longest)) - shorter_by
        data, reasons = rows(tokenizer, self.whole, at_most=at_most)
        assert data[0] == rows(tokenizer, getattr(self, remaining))[0][0]
        assert reasons == shortened

    def test_what_does_not_fit_at_all_goes_and_is_counted(self, tokenizer):
        at_most = length(tokenizer, self.first_exchange) - 1
        short = make_sample("reddit", "r:1", ("Hello?",), "Hello.")
        data, shortened = rows(tokenizer, self.whole, short, self.whole, at_most=at_most)
        assert data["source"][:] == ["reddit"]
        assert shortened == {"longer than max_seq_length": 2}

    @shared
    @given(turns=talks, recalled=diaries, at_most=st.integers(100, 400))
    def test_what_stays_fits_and_is_never_cut_inside_a_turn(self, tokenizer, turns, recalled, at_most: int):
        sample = Sample("reddit", "r:1", turns, recalled=recalled)
        data, shortened = rows(tokenizer, sample, at_most=at_most)
        assert len(data) + shortened["longer than max_seq_length"] == 1
        for row in data:
            assert len(row["input_ids"]) <= at_most
            taught = spans(tokenizer, row["labels"])
            assert taught == as_read(tokenizer, answers(sample))[: len(taught)]
            assert (len(taught) == len(answers(sample))) != bool(shortened["last turns left out"])


class TestWrongMask:
    """The template's generation tag says what carries loss; here it is moved to where it must not be."""

    NO_END = (
        "message['content'] | trim + '<|im_end|>' -}}\n    {%- endgeneration -%}",
        "message['content'] | trim -}}{%- endgeneration -%}{{- '<|im_end|>' -}}",
    )
    HEADER = (
        "{{- '<|im_start|>Ada\\n' -}}\n    {%- generation -%}",
        "{%- generation -%}{{- '<|im_start|>Ada\\n' -}}",
    )
    DREW = (
        "{{- '<|im_start|>Drew\\n' + message['content'] | trim + '<|im_end|>\\n' -}}",
        "{{- '<|im_start|>Drew\\n' -}}{%- generation -%}{{- message['content'] | trim + '<|im_end|>' -}}"
        "{%- endgeneration -%}{{- '\\n' -}}",
    )
    NOTHING = (
        "{{- message['content'] | trim + '<|im_end|>' -}}\n    {%- endgeneration -%}",
        "{%- endgeneration -%}{{- message['content'] | trim + '<|im_end|>' -}}",
    )

    @pytest.mark.parametrize(
        ("moved", "message"),
        [
            (NO_END, "no <|im_end|> carries loss: Ada would never stop"),
            (HEADER, "more than Ada's own words would carry loss"),
            (DREW, "more than Ada's own words would carry loss"),
            (NOTHING, "0 of 1 answers carry loss"),
        ],
        ids=["without her end of turn", "with her header", "with Drew", "with nothing"],
    )
    def test_a_wrong_mask_is_rejected_by_origin_without_quoting_the_text(
        self, tokenizer, moved, message: str
    ):
        assert moved[0] in TEMPLATE
        with pytest.raises(WrongMask) as error:
            rows(
                tokenizer,
                make_sample("journals", "journals.csv:7", ("Secret?",), "Secret."),
                template=TEMPLATE.replace(*moved),
            )
        assert str(error.value) == f"journals.csv:7: {message}"

    def test_a_stretch_that_goes_on_into_the_next_turn_is_refused(self, tokenizer):
        further = (
            "message['content'] | trim + '<|im_end|>' + ('' if loop.last else "
            "'\\n<|im_start|>Drew\\n' + loop.nextitem['content'] + '<|im_end|>') -}}"
            "{%- endgeneration -%}"
        )
        with pytest.raises(WrongMask, match="more than Ada's own words"):
            rows(
                tokenizer,
                Sample("conversations", "c:0", TALK),
                template=TEMPLATE.replace(self.NO_END[0], further),
            )

    def test_one_bad_answer_of_two_is_found(self, tokenizer):
        second = (
            "message['content'] | trim + ('' if loop.last else '<|im_end|>') -}}\n    {%- endgeneration -%}"
        )
        with pytest.raises(WrongMask, match="Ada would never stop"):
            rows(
                tokenizer,
                Sample("conversations", "c:0", TALK),
                template=TEMPLATE.replace(self.NO_END[0], second),
            )


class TestTurnsThatAreNotLearned:
    def test_they_are_shown_and_carry_no_loss(self, tokenizer):
        row = rows(tokenizer, Sample("conversations", "c:0", TALK, unlearned=frozenset([1])))[0][0]
        assert spans(tokenizer, row["labels"]) == ["Still. It's slow.<|im_end|>"]
        assert "Sewing headbands, with the radio on." in tokenizer.decode(row["input_ids"])

    def test_a_sample_is_never_cut_to_what_is_not_learned(self, tokenizer):
        sample = Sample("conversations", "c:0", TALK, recalled=DIARY, unlearned=frozenset([1]))
        whole = length(tokenizer, replace(sample, recalled=()))
        retained, shortened = rows(tokenizer, sample, at_most=whole - 1)
        assert not len(retained)
        assert shortened == {"longer than max_seq_length": 1}

    @shared
    @given(talk=talks, data=st.data())
    def test_whatever_is_marked_carries_none_and_the_rest_does(self, tokenizer, talk, data):
        places = range(1, len(talk) - 2, 2)
        marked = data.draw(st.sets(st.sampled_from(places)) if len(places) else st.just(set()))
        sample = Sample("conversations", "c:0", talk, unlearned=frozenset(marked))
        row = rows(tokenizer, sample)[0][0]
        learned = [
            a for index, a in zip(range(1, len(talk), 2), answers(sample), strict=True) if index not in marked
        ]
        assert spans(tokenizer, row["labels"]) == as_read(tokenizer, learned)
