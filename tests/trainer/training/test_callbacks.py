"""What is seen of a run while it runs, and what ends it at once.

.venv/bin/python -m pytest tests/trainer/training/test_callbacks.py
"""

import hashlib
import itertools
import json
import math
import re
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from services.persona.persona import load_persona
from services.persona.template import template_for
from trainer.runs.folder import best_loss
from trainer.runs.metrics import eval_losses, median_speed, read_lines, truncate_lines
from trainer.training.callbacks import (
    BestAdapter,
    MetricsFile,
    Progress,
    SampleAnswers,
    Sanity,
    TrainingFailed,
    check_that_it_learns,
)

CONTROL = TrainerControl()
PERSONA = load_persona()
ROWS = [{"input_ids": torch.arange(n, n + 8), "labels": torch.arange(n, n + 8)} for n in range(16)]


@pytest.fixture
def arguments(tmp_path: Path) -> TrainingArguments:
    return TrainingArguments(output_dir=str(tmp_path / "checkpoints"), use_cpu=True, report_to="none")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def at(step: int, of: int = 100, first: bool = True) -> TrainerState:
    return TrainerState(global_step=step, max_steps=of, is_world_process_zero=first)


def small_model(vocabulary: int = 64) -> PeftModel:
    """A Llama of one small layer with a LoRA, all of it as it is made: B is zero."""
    torch.manual_seed(7)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": vocabulary}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    config = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(LlamaForCausalLM(LlamaConfig(**shape, **heads)), config)


def trainer_of(model: PeftModel, folder: Path, *callbacks: TrainerCallback, **settings: object) -> Trainer:
    """The real loop over a few rows, with these callbacks and no other bar."""
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder / "checkpoints"),
            use_cpu=True,
            report_to="none",
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",
            dataloader_pin_memory=False,
            **{"max_steps": 4, "learning_rate": 1e-2, **settings},
        ),
        train_dataset=ROWS,
        eval_dataset={"all": ROWS[:4], "reddit": ROWS[:2]},
    )
    trainer.remove_callback(ProgressCallback)
    for callback in callbacks:
        trainer.add_callback(callback)
    return trainer


class TestMetricsFile:
    def test_a_line_has_the_step_the_time_and_the_losses(self, path: Path, arguments: TrainingArguments):
        logs = {"loss": 3.0, "grad_norm": 0.5, "learning_rate": 1e-4, "num_tokens": 100.0}
        MetricsFile(path).on_log(arguments, at(1), CONTROL, logs)
        (line,) = read_lines(path)
        assert line.pop("seconds") >= 0
        assert line == {"step": 1, "of": 100, **logs}

    def test_of_an_evaluation_only_the_losses_are_kept(self, path: Path, arguments: TrainingArguments):
        logs = {"eval_all_loss": 3.0, "eval_all_runtime": 2.0, "eval_all_entropy": 1.0, "epoch": 0.5}
        MetricsFile(path).on_log(arguments, at(1), CONTROL, logs)
        (line,) = read_lines(path)
        assert line.keys() == {"step", "of", "seconds", "eval_all_loss", "epoch"}

    @pytest.mark.parametrize("logs", [None, {}, {"epoch": 1.0}, {"train_loss": 2.0, "train_runtime": 9.0}])
    def test_what_is_no_loss_of_a_step_is_no_line(self, path: Path, arguments: TrainingArguments, logs):
        MetricsFile(path).on_log(arguments, at(1), CONTROL, logs)
        assert read_lines(path) == []

    def test_only_the_first_process_writes(self, path: Path, arguments: TrainingArguments):
        MetricsFile(path).on_log(arguments, at(1, first=False), CONTROL, {"loss": 3.0})
        assert read_lines(path) == []

    def test_speed_is_measured_between_two_steps_and_not_across_an_evaluation(
        self, path: Path, arguments: TrainingArguments
    ):
        metrics = MetricsFile(path)
        metrics.on_log(arguments, at(1), CONTROL, {"loss": 3.0, "num_tokens": 100.0})
        metrics.on_log(arguments, at(2), CONTROL, {"loss": 3.0, "num_tokens": 200.0})
        metrics.on_evaluate(arguments, at(2), CONTROL)
        metrics.on_log(arguments, at(3), CONTROL, {"loss": 3.0, "num_tokens": 300.0})
        assert ["tokens_per_s" in line for line in read_lines(path)] == [False, True, False]
        assert median_speed(read_lines(path)) > 0

    def test_a_resumed_run_drops_what_came_after_its_checkpoint_and_goes_on(
        self, path: Path, arguments: TrainingArguments
    ):
        lines = [
            {"step": 0, "of": 9, "seconds": 10.0, "eval_all_loss": 4.0},
            {"step": 4, "of": 9, "seconds": 50.0, "loss": 3.0, "num_tokens": 400},
            {"step": 5, "of": 9, "seconds": 60.0, "loss": 2.9, "num_tokens": 500},
            {"step": 6, "of": 9, "seconds": 70.0, "loss": 2.8, "num_tokens": 600},
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 7, "lo')
        ticks = itertools.count(1000.0)
        metrics = MetricsFile(path, from_step=5, clock=lambda: next(ticks))
        metrics.on_log(arguments, at(6), CONTROL, {"loss": 2.7, "num_tokens": 100})
        metrics.on_log(arguments, at(7), CONTROL, {"loss": 2.6, "num_tokens": 200})
        resumed = read_lines(path)
        assert resumed[:3] == lines[:3]
        assert [(line["step"], line["num_tokens"]) for line in resumed[3:]] == [(6, 600), (7, 700)]
        assert resumed[3]["seconds"] > 60
        assert resumed[4]["seconds"] > resumed[3]["seconds"]
        assert metrics.seconds > resumed[4]["seconds"]

    def test_a_new_run_writes_into_an_empty_file(self, path: Path):
        metrics = MetricsFile(path, clock=lambda: 1000.0)
        assert path.read_text() == ""
        assert metrics.seconds == 0

    def test_a_run_that_is_begun_anew_does_not_count_its_first_evaluation_twice(
        self, path: Path, arguments: TrainingArguments
    ):
        for _ in range(2):
            MetricsFile(path).on_log(arguments, at(0), CONTROL, {"eval_all_loss": 4.0})
        assert len(read_lines(path)) == 1


class TestSanity:
    @pytest.mark.parametrize("name", ["loss", "grad_norm", "eval_all_loss", "eval_reddit_loss"])
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_what_is_not_finite_ends_the_run_and_names_the_step(
        self, arguments: TrainingArguments, name: str, value: float
    ):
        with pytest.raises(TrainingFailed) as error:
            Sanity().on_log(arguments, at(17), CONTROL, {"epoch": 1.0, name: value})
        assert str(error.value) == f"{name} is {value} at step 17: lower learning_rate"

    @pytest.mark.parametrize("logs", [None, {}, {"loss": 3.0, "grad_norm": 0.0, "learning_rate": 0.0}])
    def test_what_is_finite_goes_on(self, arguments: TrainingArguments, logs: dict[str, float] | None):
        Sanity().on_log(arguments, at(1), CONTROL, logs)

    def test_a_lora_that_changes_nothing_is_refused(self):
        with pytest.raises(TrainingFailed, match=r"after 3 steps the LoRA still changes nothing"):
            check_that_it_learns(small_model(), 3)

    def test_one_weight_of_one_b_is_enough(self):
        model = small_model()
        weight = next(weight for name, weight in model.named_parameters() if "lora_B" in name)
        with torch.no_grad():
            weight[0, 0] = 1e-6
        check_that_it_learns(model, 3)

    def test_a_model_without_lora_is_refused(self):
        with pytest.raises(TrainingFailed, match="no LoRA layers"):
            check_that_it_learns(torch.nn.Linear(2, 2), 3)

    @pytest.mark.parametrize(
        ("step", "of", "looked"),
        [(1, 100, False), (2, 100, False), (3, 100, True), (4, 100, False), (1, 1, True)],
    )
    def test_it_is_looked_at_once_and_early(
        self, arguments: TrainingArguments, step: int, of: int, looked: bool
    ):
        refused = False
        try:
            Sanity().on_step_end(arguments, at(step, of), CONTROL, model=small_model())
        except TrainingFailed:
            refused = True
        assert refused == looked

    def test_a_real_run_that_learns_nothing_ends(self, tmp_path: Path):
        trainer = trainer_of(small_model(), tmp_path, Sanity(), learning_rate=0.0)
        with pytest.raises(TrainingFailed, match="after 3 steps"):
            trainer.train()

    def test_a_real_run_that_bursts_ends_at_its_first_step(self, tmp_path: Path):
        model = small_model()
        with torch.no_grad():
            next(model.parameters()).fill_(math.inf)
        with pytest.raises(TrainingFailed, match=r"is nan at step 1: lower learning_rate"):
            trainer_of(model, tmp_path, Sanity()).train()


class TestBestAdapter:
    @pytest.fixture
    def model(self) -> PeftModel:
        return small_model()

    @pytest.fixture
    def best(self, model: PeftModel, tmp_path: Path) -> BestAdapter:
        callback = BestAdapter(tmp_path)
        callback.trainer = trainer_of(model, tmp_path)
        return callback

    def evaluate(self, best: BestAdapter, step: int, loss: float, mark: float, **metrics: float) -> None:
        """An evaluation of an adapter whose B is `mark` everywhere."""
        assert best.trainer is not None
        with torch.no_grad():
            for name, weight in best.trainer.model.named_parameters():
                if "lora_B" in name:
                    weight.fill_(mark)
        best.on_evaluate(best.trainer.args, at(step), CONTROL, metrics={"eval_all_loss": loss, **metrics})

    def saved_mark(self, folder: Path) -> float:
        """The mark of the saved adapter."""
        weights = load_file(folder / "best" / "adapter_model.safetensors")
        return next(weight for name, weight in weights.items() if "lora_B" in name)[0, 0].item()

    def test_only_a_better_one_takes_the_place(self, best: BestAdapter, tmp_path: Path):
        for step, loss, mark in ((10, 3.0, 1.0), (20, 2.5, 2.0), (30, 2.5, 3.0), (40, 2.9, 4.0)):
            self.evaluate(best, step, loss, mark)
        assert self.saved_mark(tmp_path) == 2.0
        assert best_loss(tmp_path / "best") == 2.5
        record = json.loads((tmp_path / "best" / "held_out.json").read_text())
        weights = (tmp_path / "best" / "adapter_model.safetensors").read_bytes()
        assert record == {"step": 20, "loss": 2.5, "sha256": hashlib.sha256(weights).hexdigest()}
        assert not (tmp_path / "best.part").exists()

    def test_a_resumed_run_knows_what_it_had(self, best: BestAdapter, model: PeftModel, tmp_path: Path):
        self.evaluate(best, 10, 2.5, mark=1.0)
        again = BestAdapter(tmp_path)
        again.trainer = best.trainer
        self.evaluate(again, 20, 2.6, mark=2.0)
        assert self.saved_mark(tmp_path) == 1.0
        self.evaluate(again, 30, 2.4, mark=3.0)
        assert self.saved_mark(tmp_path) == 3.0

    def test_before_the_first_step_there_is_nothing_to_keep(self, best: BestAdapter, tmp_path: Path):
        self.evaluate(best, 0, 2.0, mark=0.0)
        assert not (tmp_path / "best").exists()

    def test_one_sources_loss_does_not_decide(self, best: BestAdapter, tmp_path: Path):
        assert best.trainer is not None
        best.on_evaluate(best.trainer.args, at(10), CONTROL, metrics={"eval_reddit_loss": 0.1})
        assert not (tmp_path / "best").exists()


class TestProgress:
    def test_a_real_run_shows_one_bar_with_loss_and_held_out_loss(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ):
        trainer = trainer_of(small_model(), tmp_path, Progress(), eval_strategy="steps", eval_steps=2)
        trainer.train()
        output = capfd.readouterr()
        assert output.out == ""
        assert {int(of) for of in re.findall(r"\d+/(\d+) ", output.err)} == {4}  # no bar for an evaluation
        assert re.search(r"loss=\d\.\d{3}", output.err)
        assert re.search(r"held out=\d\.\d{3}", output.err)
        assert "{" not in output.err

    def test_speed_is_written_for_people(self, arguments: TrainingArguments):
        progress = Progress()
        logs = {"loss": 2.71828, "eval_all_loss": 3.14159, "eval_reddit_loss": 9.0, "tokens_per_s": 12345.6}
        progress.on_log(arguments, at(1), CONTROL, logs)
        progress.on_log(arguments, at(2), CONTROL, {"loss": 2.5, "grad_norm": 1.0})
        assert progress.postfix == {"loss": "2.500", "held out": "3.142", "tokens/s": "12,346"}

    def test_a_process_without_a_bar_says_nothing(
        self, arguments: TrainingArguments, capfd: pytest.CaptureFixture[str]
    ):
        progress = Progress()
        progress.on_log(arguments, at(1, first=False), CONTROL, {"loss": 2.0})
        progress.on_log(arguments, at(1), CONTROL, None)
        assert capfd.readouterr() == ("", "")


class TestSampleAnswers:
    QUESTIONS = ("Tell me about yourself.", "And the sea?")

    @pytest.fixture
    def answers(self, smollm2_tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SampleAnswers:
        monkeypatch.setattr(smollm2_tokenizer, "chat_template", template_for(PERSONA))
        return SampleAnswers(tmp_path, smollm2_tokenizer, PERSONA, self.QUESTIONS, max_new_tokens=4)

    def evaluate(self, answers: SampleAnswers, model: PeftModel, state: TrainerState, name: str) -> None:
        answers.on_evaluate(None, state, CONTROL, model=model, metrics={name: 3.0})

    def test_each_question_is_answered_once_an_evaluation(self, answers: SampleAnswers):
        model = small_model(vocabulary=len(answers.tokenizer))
        for step, name in ((0, "eval_all_loss"), (0, "eval_reddit_loss"), (5, "eval_all_loss")):
            self.evaluate(answers, model, at(step), name)
        request = [(line["step"], line["question"]) for line in read_lines(answers.path)]
        assert request == [(step, question) for step in (0, 5) for question in self.QUESTIONS]

    def test_it_draws_no_random_number(self, answers: SampleAnswers):
        model = small_model(vocabulary=len(answers.tokenizer))
        before = torch.get_rng_state()
        self.evaluate(answers, model, at(5), "eval_all_loss")
        self.evaluate(answers, model, at(5), "eval_all_loss")
        assert torch.equal(torch.get_rng_state(), before)
        first, second = read_lines(answers.path)[:2], read_lines(answers.path)[2:]
        assert first == second

    def test_only_the_first_process_asks(self, answers: SampleAnswers):
        model = small_model(vocabulary=len(answers.tokenizer))
        self.evaluate(answers, model, at(5, first=False), "eval_all_loss")
        assert read_lines(answers.path) == []

    def test_a_resumed_run_drops_the_answers_after_its_checkpoint(self, answers: SampleAnswers):
        lines = [{"step": step, "question": "Q", "answer": "née"} for step in (0, 5, 10)]
        answers.path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        SampleAnswers(answers.path.parent, answers.tokenizer, PERSONA, self.QUESTIONS, 4, from_step=5)
        assert read_lines(answers.path) == lines[:2]


def test_a_real_run_leaves_its_metrics_and_its_best_adapter(tmp_path: Path):
    best = BestAdapter(tmp_path)
    callbacks = (MetricsFile(tmp_path / "metrics.jsonl"), Sanity(), best)
    trainer = trainer_of(
        small_model(), tmp_path, *callbacks, eval_strategy="steps", eval_steps=2, eval_on_start=True
    )
    best.trainer = trainer
    trainer.train()
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    assert [line["step"] for line in lines if "eval_all_loss" in line] == [0, 2, 4]
    losses = eval_losses(lines)
    assert losses.keys() == {"all", "reddit"}
    assert losses["all"][1] < losses["all"][0]
    assert best_loss(tmp_path / "best") == losses["all"][1]
    assert truncate_lines(tmp_path / "metrics.jsonl", up_to_step=2)[-1]["step"] == 2
