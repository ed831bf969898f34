"""Callbacks of a run: metrics, progress, sample answers, the best adapter, and checks that end it early."""

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PreTrainedTokenizerBase,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from services.errors import AdaError
from services.files import PART
from services.persona.persona import Persona
from services.persona.prompt import build_messages
from trainer.log import log
from trainer.runs.checkpoints import seal
from trainer.runs.folder import BEST, best_loss, write_best
from trainer.runs.metrics import EVAL_LOSS, truncate_lines

ANSWERS = "answers.jsonl"


class TrainingFailed(AdaError):
    """The run learned nothing that could be served; the message says what went wrong."""


class MetricsFile(TrainerCallback):
    """Writes one JSON line per log: step, seconds, loss, tokens per second. A resumed run appends."""

    def __init__(self, path: Path, from_step: int = -1, clock: Callable[[], float] = time.monotonic) -> None:
        self.path, self.clock = path, clock
        earlier = truncate_lines(path, from_step)
        self.before = earlier[-1]["seconds"] if earlier else 0.0
        self.tokens_before = max((line.get("num_tokens", 0) for line in earlier), default=0)
        self.started = clock()
        self.mark: tuple[float, float] | None = None  # seconds and tokens at the last logged step

    @property
    def seconds(self) -> float:
        """Seconds since the run began, without the time between a kill and the resumption."""
        return self.before + self.clock() - self.started

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        if not logs or not any(name == "loss" or name.endswith("_loss") for name in logs):
            return
        if "loss" in logs and "num_tokens" in logs:
            logs["num_tokens"] += self.tokens_before
            logs |= self._speed(logs["num_tokens"])
        if not state.is_world_process_zero or "train_loss" in logs:
            return
        line = {"step": state.global_step, "of": state.max_steps, "seconds": round(self.seconds, 2)}
        line |= {
            name: value
            for name, value in logs.items()
            if not name.startswith("eval_") or name.endswith("_loss")
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        log.debug("%s", line)

    def _speed(self, tokens: float) -> dict[str, float]:
        now, before = (self.seconds, tokens), self.mark
        self.mark = now
        return {"tokens_per_s": round((now[1] - before[1]) / (now[0] - before[0]), 1)} if before else {}

    def on_evaluate(self, *args: object, **kwargs: object) -> None:
        """An evaluation is not part of the speed of training."""
        self.mark = None


class Sanity(TrainerCallback):
    """Ends a run at the first sign that it learns nothing: a loss that is not finite, or a LoRA of zeros."""

    LEARNS_BY = 3  # optimiser steps; the first of a warm-up has a learning rate of 0

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        for name, value in (logs or {}).items():
            if (name.endswith("loss") or name == "grad_norm") and not math.isfinite(float(value)):
                raise TrainingFailed(f"{name} is {value} at step {state.global_step}: lower learning_rate")

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **kwargs: object,
    ) -> None:
        if state.global_step == min(self.LEARNS_BY, state.max_steps) and model is not None:
            check_that_it_learns(model, state.global_step)


def check_that_it_learns(model: torch.nn.Module, step: int) -> None:
    """Raise TrainingFailed while every LoRA's B is zero, as initialised: such an adapter changes nothing."""
    ups = [weight for name, weight in model.named_parameters() if "lora_B" in name]
    if not ups:
        raise TrainingFailed("the model has no LoRA layers: there is nothing to train")
    if not any(bool(weight.detach().any()) for weight in ups):
        raise TrainingFailed(
            f"after {step} steps the LoRA still changes nothing: learning_rate is 0, or so small that all "
            "of them are warmup_steps"
        )


class Progress(ProgressCallback):
    """A progress bar with the remaining time, the losses and the speed."""

    def __init__(self) -> None:
        super().__init__()
        self.postfix: dict[str, str] = {}

    def on_prediction_step(self, *args: object, **kwargs: object) -> None:
        """No further bar for each data set of an evaluation."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        names = {"loss": "loss", EVAL_LOSS: "held out", "tokens_per_s": "tokens/s"}
        for name, value in (logs or {}).items():
            if name in names:
                self.postfix[names[name]] = f"{value:,.0f}" if name == "tokens_per_s" else f"{value:.3f}"
        if self.training_bar is not None:
            self.training_bar.set_postfix(self.postfix)


class BestAdapter(TrainerCallback):
    """Saves the adapter of the lowest held-out loss so far in `best/`, after each evaluation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / BEST
        self.partial = folder / f"{BEST}{PART}"
        self.trainer: Any = None

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        loss = (metrics or {}).get(EVAL_LOSS)
        if loss is None or state.global_step == 0 or self.trainer is None or loss >= best_loss(self.folder):
            return
        if state.is_world_process_zero:
            shutil.rmtree(self.partial, ignore_errors=True)
        # A kill must leave the best adapter so far whole.
        self.trainer.save_model(str(self.partial))
        if state.is_world_process_zero:
            write_best(self.partial, state.global_step, loss)
            shutil.rmtree(self.folder, ignore_errors=True)
            self.partial.rename(self.folder)


class SealedCheckpoints(TrainerCallback):
    """Seals each checkpoint once all processes have written their part of it."""

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()
        if state.is_world_process_zero:
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")


class SampleAnswers(TrainerCallback):
    """Generates answers to the same questions at every evaluation and appends them to answers.jsonl."""

    def __init__(
        self,
        folder: Path,
        tokenizer: PreTrainedTokenizerBase,
        persona: Persona,
        questions: tuple[str, ...],
        max_new_tokens: int,
        from_step: int = -1,
    ) -> None:
        self.path = folder / ANSWERS
        self.tokenizer, self.persona = tokenizer, persona
        self.questions, self.max_new_tokens = questions, max_new_tokens
        truncate_lines(self.path, from_step)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        metrics: Mapping[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        if model is None or not state.is_world_process_zero or EVAL_LOSS not in (metrics or {}):
            return
        model.eval()
        for question in self.questions:
            line = {"step": state.global_step, "question": question, "answer": self._answer(model, question)}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            log.debug("%s", line)

    @torch.no_grad()
    def _answer(self, model: Any, question: str) -> str:
        """Greedy decoding uses no random numbers, so that a resumed run learns what an unbroken one does."""
        prompt = self.tokenizer.apply_chat_template(
            build_messages(self.persona, [{"role": "user", "content": question}]),
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        ).to(next(model.parameters()).device)
        output = model.generate(**prompt, max_new_tokens=self.max_new_tokens, do_sample=False, use_cache=True)
        answer = output[0, prompt["input_ids"].shape[1] :]
        return str(self.tokenizer.decode(answer, skip_special_tokens=True))
