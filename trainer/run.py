"""One whole run: prepare its folder, train in it, complete and publish it."""

import json
import os
import platform
import shutil
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from services.errors import ConfigError
from services.files import PART
from services.persona.manifest import (
    ADAPTER_CONFIG_NAME,
    PERSONA_NAME,
    TEMPLATE_NAME,
    WEIGHTS_NAME,
    Manifest,
    file_sha256,
)
from services.persona.persona import load_persona
from services.persona.template import template_for, template_sha256
from services.process import gpu_lock
from services.revision import code_revision
from trainer.config import TrainingConfig, load_config
from trainer.data.mixture import Mixture, check_sources, mix
from trainer.data.report_table import table
from trainer.log import log
from trainer.publish import check_link, publish_if_fit
from trainer.runs import checkpoints
from trainer.runs import folder as run_folder
from trainer.runs.metrics import ALL_SOURCES, plot_loss
from trainer.runs.model_card import model_card

# torch and transformers take seconds to import; mistakes in the config or data are reported before that.
if TYPE_CHECKING:
    from trainer.training.train import Outcome

WANDB_MODES_WITHOUT_LOGIN = ("offline", "disabled", "dryrun")
_WANDB_REMEDY = (
    "Run `wandb login`, or set WANDB_API_KEY; or set WANDB_MODE=offline to keep the report here; or leave "
    "wandb out of report_to"
)


def run(config: TrainingConfig, cache: Path, log_file: Path) -> Path:
    """Prepare a new run, train it, and return the folder of the complete run."""
    started = time.monotonic()
    check_link(config.output_dir)
    load_persona(config.persona)
    check_sources(config)
    # Checked before minutes are spent on the mixture.
    check_reports(config.report_to, os.environ)
    location = _check_and_locate(config, cache)
    mixture = mix(config)
    log.info("%s", table(mixture))
    _lock_gpu()
    folder = run_folder.begin(config.output_dir, run_folder.new_run_id())
    with run_folder.locked(folder):
        _prepare(folder, config, mixture, location, started)
        return _train_and_finish(folder, config, location, log_file)


def resume(config: TrainingConfig, cache: Path, log_file: Path) -> Path:
    """Resume the newest unfinished run with its own config and data."""
    folder = run_folder.unfinished(config.output_dir)
    own = load_config(folder / run_folder.CONFIG_NAME, [])
    # Done before the folder is locked: a failure under the lock deletes a folder without checkpoints.
    _lock_gpu()
    location = _check_and_locate(own, cache)
    check_reports(own.report_to, os.environ)
    with run_folder.locked(folder):
        _choose_checkpoint(folder)
        return _train_and_finish(folder, own, location, log_file)


def check_reports(report_to: Collection[str], environment: Mapping[str, str]) -> None:
    """Raise ConfigError when Weights & Biases would ask for a login in the middle of a run."""
    if "wandb" not in report_to or environment.get("WANDB_MODE", "").lower() in WANDB_MODES_WITHOUT_LOGIN:
        return
    import wandb  # takes a second

    try:
        logged_in = wandb.login(prompt=False, verify=False)
    except (wandb.errors.Error, ValueError) as error:
        raise ConfigError(f"report_to=[wandb]: {' '.join(str(error).split())}. {_WANDB_REMEDY}") from None
    if not logged_in:
        raise ConfigError(f"report_to=[wandb] needs a login. {_WANDB_REMEDY}")


def _choose_checkpoint(folder: Path) -> None:
    """Move damaged checkpoints out of the way, and log where the run resumes."""
    checkpoint, flaws = checkpoints.newest_whole(folder)
    for damaged, flaw in flaws.items():
        log.info("%s is skipped: %s", damaged.name, flaw)
        checkpoints.set_aside(damaged)
    log.info("resuming %s from %s", folder, checkpoint.name if checkpoint else "its first step")


def _lock_gpu() -> None:
    import torch

    if lock := gpu_lock.lock_path(os.environ, on_gpu=torch.cuda.is_available()):
        gpu_lock.hold(lock, "trainer")


def _check_and_locate(config: TrainingConfig, cache: Path) -> str:
    """Return the location of the base model, after checks that would otherwise fail hours later."""
    from trainer import base_model

    base_model.check_quantization(config)
    location = base_model.prepare(config.model_name, cache)
    adapter = 4 * base_model.shape_of(location, config.lora_rank).adapter_weights
    # The last adapter, the best one, and two checkpoints, each an adapter with AdamW's two moments.
    run_folder.check_disk(config.output_dir, needed=8 * adapter)
    return location


def _prepare(folder: Path, config: TrainingConfig, mixture: Mixture, location: str, started: float) -> None:
    """Write all that training needs into the folder; after this, a killed run can be resumed."""
    from datasets import disable_progress_bars

    from trainer.base_model import load_tokenizer
    from trainer.data.tokens import encode

    disable_progress_bars()
    persona = load_persona(config.persona)
    template, tokenizer = template_for(persona), load_tokenizer(location)
    shutil.copyfile(config.persona, folder / PERSONA_NAME)
    (folder / TEMPLATE_NAME).write_text(template, encoding="utf-8")
    for samples, name in (
        (mixture.train, run_folder.TRAIN_ROWS),
        (mixture.eval, run_folder.EVAL_ROWS),
    ):
        rows, cut = encode(samples, persona, tokenizer, template, config.max_seq_length)
        for reason, count in cut.items():
            log.info("%d of %d samples: %s", count, len(samples), reason)
        if not len(rows):
            raise ConfigError(
                f"no sample fits max_seq_length={config.max_seq_length}, part of which is taken up by the "
                "persona's system text: raise it"
            )
        rows.save_to_disk(folder / name)
    account = {"sources": mixture.source_stats, "seconds": round(time.monotonic() - started, 1)}
    (folder / run_folder.MIXTURE_STATS).write_text(json.dumps(account, indent=2) + "\n", encoding="utf-8")
    settings = config.model_dump(mode="json")
    (folder / run_folder.CONFIG_NAME).write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    (folder / run_folder.PREPARED).touch()


def _train_and_finish(folder: Path, config: TrainingConfig, location: str, log_file: Path) -> Path:
    from trainer.training.train import train_on_all_cards

    outcome = train_on_all_cards(folder, location, log_file)
    run_folder.choose_adapter(folder, config.keep, outcome.loss_after)
    plot_loss(folder)
    run_folder.complete(folder, config.model_name)
    manifest = _manifest(folder, config, outcome)
    (folder / "README.md").write_text(model_card(manifest), encoding="utf-8")
    manifest.write(folder)
    run_folder.open_to_all(folder)
    final = run_folder.name_run(folder)
    publish_if_fit(final, config.output_dir, config.publish)
    return final


def _manifest(folder: Path, config: TrainingConfig, outcome: "Outcome") -> Manifest:
    account = json.loads((folder / run_folder.MIXTURE_STATS).read_text(encoding="utf-8"))
    persona = load_persona(folder / PERSONA_NAME)
    template = (folder / TEMPLATE_NAME).read_text(encoding="utf-8")
    step, losses = _served(folder, outcome)
    return Manifest(
        run_id=folder.name.removesuffix(PART),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        base_model=config.model_name,
        lora_rank=config.lora_rank,
        lora_alpha=config.lora_alpha,
        user_name=persona.user_name,
        assistant_name=persona.assistant_name,
        pronouns=str(persona.pronouns),
        template_sha256=template_sha256(template),
        weights_sha256=file_sha256(folder / WEIGHTS_NAME),
        adapter_config_sha256=file_sha256(folder / ADAPTER_CONFIG_NAME),
        persona_sha256=file_sha256(folder / PERSONA_NAME),
        seed=config.seed,
        dataset=account["sources"],
        versions=_versions(),
        timings_s={"prepare": account["seconds"], "train": round(outcome.seconds, 1)},
        peak_memory_gib=round(outcome.peak_memory_gib, 2),
        steps=outcome.steps,
        served_step=step,
        tokens=outcome.tokens,
        loss_before=outcome.loss_before,
        loss_after=losses[ALL_SOURCES],
        last_loss=outcome.loss_after,
        loss_by_source={
            source: [before, losses.get(source, after)]
            for source, (before, after) in outcome.loss_by_source.items()
        },
        plan=outcome.plan,
        # A container has no Git checkout.
        code_revision=os.environ.get("ADA_CODE_REVISION") or code_revision(os.environ),
    )


def _served(folder: Path, outcome: "Outcome") -> tuple[int, dict[str, float]]:
    """The step of the adapter at the top of the folder, and its held-out losses by source."""
    if outcome.best_step is not None and (folder / run_folder.LAST).exists():
        return outcome.best_step, outcome.best_losses
    return outcome.steps, {ALL_SOURCES: outcome.loss_after}


def _versions() -> dict[str, str]:
    packages = ("torch", "transformers", "trl", "peft", "datasets")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
