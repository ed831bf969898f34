"""The plan of a step: what is learned never changes, what is measured fits, and what can't be is told.

.venv/bin/python -m pytest tests/trainer/training/test_plan.py
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import ConfigError
from trainer.base_model import Shape
from trainer.config import TrainingConfig
from trainer.training.plan import GIB, Plan, estimate, plan_for_cards, plan_for_cpu

QWEN3_8B = Shape(
    layers=36,
    hidden=4096,
    intermediate=12288,
    key_value=1024,
    linear_weights=6_945_767_424,
    other_weights=1_244_659_712,
    adapter_weights=174_600_000,
)
# The fastest first, for one number of rows.
ORDER = [("none", False), ("nf4", False), ("none", True), ("nf4", True)]

configs = st.builds(
    TrainingConfig,
    batch_size=st.integers(1, 12),
    gradient_accumulation_steps=st.integers(1, 12),
    rows_at_once=st.none() | st.integers(1, 12),
    quantization=st.sampled_from(["auto", "none", "nf4"]),
    gradient_checkpointing=st.sampled_from([None, True, False]),
    max_seq_length=st.sampled_from([256, 2048]),
)
sharded = configs.filter(lambda config: config.quantization != "nf4").map(
    lambda config: config.model_copy(update={"sharding": "fsdp"})
)
cards = st.integers(1, 8)
memories = st.floats(4 * GIB, 160 * GIB)


def make_plan(config: TrainingConfig, memory: float, count: int = 1) -> Plan | None:
    """The plan, or None where there can't be one."""
    try:
        return plan_for_cards(config, QWEN3_8B, memory, count)
    except ConfigError:
        return None


QWEN25_1B = Shape(
    layers=28,
    hidden=1536,
    intermediate=8960,
    key_value=256,
    linear_weights=1_310_195_712,
    other_weights=233_373_696,
    adapter_weights=73_859_072,
    query=1536,
)


@pytest.mark.parametrize(("varlen", "measured"), [(True, 19.97), (False, 24.64)])
def test_the_estimate_of_a_small_model_is_what_was_measured_by_either_attention(
    varlen: bool, measured: float
):
    plan = plan_for_cards(TrainingConfig(), QWEN25_1B, 40 * GIB, varlen=varlen)
    assert (plan.rows, plan.recompute) == (4, False)
    assert measured < plan.estimate_gib < 1.1 * measured


class TestWhatIsLearned:
    @given(config=configs | sharded, count=cards, memory=memories)
    def test_a_steps_rows_are_the_configs_on_any_card(
        self, config: TrainingConfig, count: int, memory: float
    ):
        plan = make_plan(config, memory, count)
        if plan is not None:
            rows = config.batch_size * config.gradient_accumulation_steps
            assert plan.rows * plan.accumulation * count == rows
            assert min(plan.rows, plan.accumulation) >= 1

    @given(config=configs, count=cards)
    def test_a_steps_rows_are_the_configs_on_the_cpu(self, config: TrainingConfig, count: int):
        try:
            plan = plan_for_cpu(config, count)
        except ConfigError:
            return
        assert plan.rows * plan.accumulation * count == config.batch_size * config.gradient_accumulation_steps

    @given(config=configs | sharded, count=cards, memory=memories)
    def test_what_is_asked_for_is_planned(self, config: TrainingConfig, count: int, memory: float):
        plan = make_plan(config, memory, count)
        if plan is not None:
            assert config.quantization in ("auto", plan.quantization)
            assert config.rows_at_once in (None, plan.rows)
            assert config.gradient_checkpointing in (None, plan.recompute)

    @given(config=sharded, count=cards, memory=memories)
    def test_fsdp_never_plans_nf4(self, config: TrainingConfig, count: int, memory: float):
        plan = make_plan(config, memory, count)
        assert plan is None or plan.quantization == "none"


class TestWhatFits:
    @given(config=configs | sharded, count=cards, memory=memories)
    def test_no_plan_needs_more_than_there_is(self, config: TrainingConfig, count: int, memory: float):
        plan = make_plan(config, memory, count)
        if plan is not None:
            assert plan.estimate_gib is not None
            assert plan.estimate_gib <= memory / GIB
            shards = count if config.sharding == "fsdp" else 1
            assert plan.estimate_gib == estimate(plan, QWEN3_8B, config.max_seq_length, shards) / GIB

    @given(config=configs | sharded, count=cards, memory=memories, more=st.floats(0, 80 * GIB))
    def test_more_memory_never_gives_a_slower_plan(self, config, count: int, memory: float, more: float):
        plan, richer = make_plan(config, memory, count), make_plan(config, memory + more, count)
        if plan is not None:
            assert richer is not None
            assert slowness(richer) <= slowness(plan)

    # Reserved by PyTorch, in GiB, 4 rows of 2,048.
    @pytest.mark.parametrize(
        ("quantization", "recompute", "measured"),
        [("nf4", True, 12.49), ("none", True, 21.7), ("none", False, 56.96)],
    )
    def test_an_estimate_is_a_little_above_what_was_measured(
        self, quantization: str, recompute: bool, measured: float
    ):
        needed = estimate(Plan(quantization, 4, 1, recompute), QWEN3_8B, row_tokens=2048) / GIB
        assert measured <= needed <= 1.08 * measured

    def test_fewer_rows_kept_activations_and_shards_need_what_they_should(self):
        def needed(rows: int = 4, recompute: bool = True, shards: int = 1) -> float:
            return estimate(Plan("none", rows, 1, recompute), QWEN3_8B, 2048, shards)

        assert needed(rows=2) < needed(rows=4) < needed(recompute=False)
        assert needed(shards=2) < needed(shards=1)

    @pytest.mark.parametrize(
        ("memory", "fits"),
        [
            (14, ("nf4", 4, True)),
            (24, ("none", 4, True)),
            (50, ("nf4", 4, False)),
            (79, ("none", 4, False)),
        ],
    )
    def test_a_default_run_on_qwen3_8b_is_planned_so(self, memory: int, fits: tuple[str, int, bool]):
        plan = plan_for_cards(TrainingConfig(), QWEN3_8B, memory * GIB)
        assert (plan.quantization, plan.rows, plan.recompute) == fits
        assert plan.accumulation == 1

    def test_two_cards_share_a_step(self):
        plan = plan_for_cards(TrainingConfig(), QWEN3_8B, 14 * GIB, cards=2)
        assert (plan.quantization, plan.rows, plan.accumulation) == ("nf4", 2, 1)


def slowness(plan: Plan) -> tuple[int, int]:
    return -plan.rows, ORDER.index((plan.quantization, plan.recompute))


class TestWhatCantBe:
    def refusal(self, memory: float = 80, cards: int = 1, **settings: object) -> str:
        with pytest.raises(ConfigError) as error:
            plan_for_cards(TrainingConfig(**settings), QWEN3_8B, memory * GIB, cards)
        return str(error.value)

    @pytest.mark.parametrize("settings", [{}, {"quantization": "none"}, {"gradient_checkpointing": False}])
    def test_too_little_memory_is_told_with_what_is_needed_and_what_to_set(self, settings: dict[str, object]):
        message = self.refusal(6, **settings)
        assert message.startswith("this run needs about ")
        assert "GiB and the plan is for 6.0: set max_seq_length=1024 or lora_rank=32" in message

    def test_what_is_needed_at_least_is_what_the_thriftiest_plan_needs(self):
        message = self.refusal(6)
        needed = float(message.removeprefix("this run needs about ").split()[0])
        assert plan_for_cards(TrainingConfig(), QWEN3_8B, (needed + 0.1) * GIB).recompute

    def test_cards_that_cant_share_a_step_evenly_are_told_with_what_to_set(self):
        message = self.refusal(cards=3)
        assert "batch_size * gradient_accumulation_steps = 4 rows a step" in message
        assert "by 3 cards: make it a multiple, or choose the cards with CUDA_VISIBLE_DEVICES" in message

    @pytest.mark.parametrize("rows", [3, 8])
    def test_rows_at_once_that_dont_divide_a_step_are_told(self, rows: int):
        message = self.refusal(rows_at_once=rows)
        assert message == f"rows_at_once={rows} does not divide the 4 rows of one card's step"

    def test_nf4_in_shards_is_refused_by_name(self):
        message = self.refusal(quantization="nf4", sharding="fsdp")
        assert "fsdp" in message


class TestCpu:
    def test_a_batch_at_once_with_activations_kept(self):
        plan = plan_for_cpu(TrainingConfig(batch_size=2, gradient_accumulation_steps=3))
        assert plan == Plan("none", rows=2, accumulation=3, recompute=False)

    def test_what_is_configured_holds(self):
        plan = plan_for_cpu(TrainingConfig(rows_at_once=4, gradient_checkpointing=True))
        assert plan == Plan("none", rows=4, accumulation=1, recompute=True)

    def test_processes_that_cant_share_a_step_are_refused(self):
        with pytest.raises(ConfigError, match="can't be shared evenly by 3"):
            plan_for_cpu(TrainingConfig(), processes=3)


def test_a_plan_tells_itself_in_words():
    assert str(Plan("nf4", 4, 1, True, 13.02)) == (
        "base in NF4, 4 rows at once, 1 times a step, activations computed again, about 13.0 GiB"
    )
    assert str(Plan("none", 1, 4, False)) == (
        "base in bfloat16, 1 rows at once, 4 times a step, activations kept"
    )
