"""Train Ada: from narratives to a published adapter.

python -m trainer --config trainer/configs/bare.yaml [name=value ...]
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import yaml

from services import gpu_lock
from services.errors import AdaError, ConfigError
from services.persona.base_model import DEFAULT_MODEL_CACHE
from services.persona.manifest import PERSONA_NAME, TEMPLATE_NAME, WEIGHTS_NAME, Manifest, file_sha256
from services.persona.persona import load_persona
from services.persona.template import template_for, template_sha256
from trainer import run_folder
from trainer.config import TrainingConfig, load_config
from trainer.mixture import mix


def main() -> int:
    """Entry point; a mistake of the user's is one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, help="a YAML file, see trainer/configs/")
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="for example lora_rank=32")
    arguments = parser.parse_args()
    cache = Path(os.environ.get("ADA_MODEL_CACHE", DEFAULT_MODEL_CACHE)).absolute()
    try:
        final = run(load_config(arguments.config, arguments.overrides), cache)
    except AdaError as error:
        print(f"trainer: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("trainer: interrupted; nothing was published", file=sys.stderr)
        return 130
    print(f"published {final}")
    return 0


def run(config: TrainingConfig, cache: Path) -> Path:
    """One whole run, straight through; returns the published folder."""
    started = time.monotonic()
    persona = load_persona(config.persona)
    template = template_for(persona)
    mixture = mix(config)
    for source, share in mixture.account.items():
        print(f"{source:14} asked {share['asked']:>6}  found {share['found']:>6}  used {share['used']:>6}")

    if len(mixture.samples) <= config.eval_size:
        raise ConfigError(
            f"{len(mixture.samples)} samples and eval_size={config.eval_size} leave none to learn from: "
            "bring more data, or lower eval_size"
        )
    run_folder.check_link(config.output_dir)

    # torch and transformers take seconds to import: a mistake in the data is told before that.
    import torch

    lock = gpu_lock.lock_path(os.environ, on_gpu=torch.cuda.is_available())
    if lock:
        gpu_lock.hold(lock, "trainer")

    from trainer import base_model
    from trainer.model_card import model_card
    from trainer.training import train

    location = base_model.prepare(config.model_name, cache)
    tokenizer = base_model.load_tokenizer(location)
    model = base_model.load_model(location, config)
    run_folder.check_disk(config.output_dir, needed=4 * _adapter_bytes(model, config.lora_rank))
    loaded = time.monotonic()

    run_id = run_folder.new_run_id()
    with run_folder.provisional(config.output_dir, run_id) as folder:
        shutil.copyfile(config.persona, folder / PERSONA_NAME)
        settings = config.model_dump(mode="json")
        (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        outcome = train(model, tokenizer, template, persona, mixture.samples, config, folder)
        run_folder.complete(folder, config.model_name)
        (folder / TEMPLATE_NAME).write_text(template, encoding="utf-8")
        run_folder.plot_loss(folder)
        manifest = Manifest(
            run_id=run_id,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            base_model=config.model_name,
            lora_rank=config.lora_rank,
            lora_alpha=config.lora_alpha,
            user_name=persona.user_name,
            assistant_name=persona.assistant_name,
            template_sha256=template_sha256(template),
            weights_sha256=file_sha256(folder / WEIGHTS_NAME),
            seed=config.seed,
            dataset=mixture.account,
            versions=_versions(),
            timings_s={"prepare": round(loaded - started, 1), "train": round(outcome.seconds, 1)},
            peak_memory_gib=round(outcome.peak_memory_gib, 2),
            steps=outcome.steps,
            loss_before=outcome.loss_before,
            loss_after=outcome.loss_after,
            code_revision=_code_revision(),
        )
        (folder / "README.md").write_text(model_card(manifest), encoding="utf-8")
        manifest.write(folder)
        return run_folder.publish(folder, config.output_dir)


def _adapter_bytes(model: object, rank: int) -> int:
    """Size of a LoRA of `rank` on all linear layers, in float32."""
    import torch

    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    return sum(4 * rank * (layer.in_features + layer.out_features) for layer in layers)


def _versions() -> dict[str, str]:
    packages = ("torch", "transformers", "trl", "peft", "datasets")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _code_revision() -> str:
    """The commit that trained, or nothing: neither git nor a checkout is needed to train."""
    if told := os.environ.get("ADA_CODE_REVISION"):  # a container has no checkout
        return told
    try:
        git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return git.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
