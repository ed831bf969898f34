"""Train Ada: from narratives to a published adapter.

python -m trainer --config trainer/configs/bare.yaml [name=value ...]     a new run
python -m trainer --resume                                                the newest unfinished one
"""

import argparse
import os
import sys
from pathlib import Path

from services.errors import AdaError
from services.persona.base_model import DEFAULT_MODEL_CACHE
from trainer.config import load_config
from trainer.log import log, log_to, speak
from trainer.run import resume, run


def main() -> int:
    """Entry point; a mistake of the user's is one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, help="a YAML file, see trainer/configs/")
    parser.add_argument("--resume", action="store_true", help="go on with the newest unfinished run")
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="for example lora_rank=32")
    arguments = parser.parse_args()
    cache = Path(os.environ.get("ADA_MODEL_CACHE", DEFAULT_MODEL_CACHE)).absolute()
    speak()
    try:
        config = load_config(arguments.config, arguments.overrides)
        log_file = log_to(config.log_dir)
        final = (resume if arguments.resume else run)(config, cache, log_file)
    except AdaError as error:
        log.error("trainer: %s", error)
        return 2
    except KeyboardInterrupt:
        log.error("trainer: interrupted; nothing was published")
        return 130
    log.info("complete: %s", final)
    return 0


if __name__ == "__main__":
    sys.exit(main())
