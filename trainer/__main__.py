"""Train Ada: from narratives to a published adapter.

python -m trainer --config trainer/configs/bare.yaml [name=value ...]     a new run
python -m trainer --resume                                                the newest unfinished one
"""

import argparse
import os
import sys
from pathlib import Path

from services.errors import AdaError, ConfigError
from services.persona.base_model import model_cache
from trainer.config import load_config, origin
from trainer.log import log, log_to, setup_console
from trainer.run import resume, run
from trainer.runs.folder import last_checkpoint, unfinished


def main() -> int:
    """Run the command. A user's mistake is reported in one line on stderr, with exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, help="a YAML file, see trainer/configs/")
    parser.add_argument("--resume", action="store_true", help="resume the newest unfinished run")
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="for example lora_rank=32")
    arguments = parser.parse_args()
    cache = model_cache(os.environ)
    setup_console()
    config = None
    try:
        config = load_config(arguments.config, arguments.overrides)
        log_file = log_to(config.log_dir)
        if not arguments.resume:  # a resumed run has its own
            log.info("configuration: %s", origin(arguments.config, arguments.overrides))
        final = (resume if arguments.resume else run)(config, cache, log_file)
    except AdaError as error:
        log.error("trainer: %s", error)
        return 2
    except KeyboardInterrupt:
        log.error(
            "trainer: interrupted; nothing was published%s",
            _how_to_resume(config.output_dir) if config else "",
        )
        return 130
    log.info("complete: %s", final)
    return 0


def _how_to_resume(output_dir: Path) -> str:
    """How to resume an interrupted run; empty if it did not get far enough."""
    try:
        folder = unfinished(output_dir)
    except ConfigError:
        return ""
    checkpoint = last_checkpoint(folder)
    where = f"from {checkpoint.name}" if checkpoint else "from its first step"
    return f"; `make train RESUME=1` resumes {folder} {where}"


if __name__ == "__main__":
    sys.exit(main())
