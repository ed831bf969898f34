"""Commands of the deployment.

python3 -m services.deployment init | up | down | logs | ps | can-train | train [arguments of the trainer]
python3 -m services.deployment pin-images
python3 -m services.deployment key [OWNER=… [RPM=…] [TPM=…] | REVOKE=…]
"""

import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from services.api_keys import KEYS_FILE
from services.deployment.engine import (
    CPU_FILES,
    GPU_FILES,
    DockerEngine,
    compose,
    compose_files,
    compose_output,
    engine_or_none,
    find_engine,
    run,
)
from services.deployment.environment import (
    ENV,
    RANDOM,
    SECRETS,
    check_env,
    read_env,
    write_env,
    write_secrets,
)
from services.deployment.images import pin_images
from services.deployment.keys import key
from services.deployment.readiness import NotReady, wait_until_ready
from services.errors import AdaError, ConfigError
from services.process.port import check_port, http_url
from services.process.start import CONFIG_EXIT
from services.revision import code_revision

BUILD_GIB = {GPU_FILES: 60, CPU_FILES: 12}
RUN_GIB = 2
CONFIGS = {GPU_FILES: "trainer/configs/ada.yaml", CPU_FILES: "trainer/configs/bare.yaml"}
CONTAINER_USER = 10001


def main() -> int:
    """Entry point; a user error is one line on stderr and exit code 2."""
    verbs: dict[str, Callable[..., int]] = {
        "init": init,
        "up": up,
        "down": down,
        "logs": logs,
        "ps": ps,
        "can-train": can_train,
        "train": train,
        "key": key,
        "pin-images": pin_images,
    }
    verb, *arguments = sys.argv[1:] or ["help"]
    if verb not in verbs or (arguments and verb not in ("train", "key")):
        print(__doc__, file=sys.stderr)
        return CONFIG_EXIT
    try:
        return verbs[verb](*arguments)
    except AdaError as error:
        print(f"{verb}: {error}", file=sys.stderr)
        return CONFIG_EXIT
    except KeyboardInterrupt:
        print(f"{verb}: interrupted", file=sys.stderr)
        return 130


def init() -> int:
    """Write the missing values to .env and the secrets' files; existing values are not changed."""
    values = read_env()
    wanted = {name: secrets.token_urlsafe(32) for name in RANDOM} | _detected_settings()
    added = {name: value for name, value in wanted.items() if not values.get(name)}
    write_env(added)
    write_secrets(values | added)
    _make_outputs(values | added)
    remainder = "" if len(added) == len(wanted) else "; the rest was there and is kept"
    print(f".env (mode 0600) and {SECRETS}/: wrote {', '.join(added) or 'nothing'}{remainder}")
    if "COMPOSE_FILE" in added:
        print(f"plain `docker compose` uses {added['COMPOSE_FILE']} here. Next: make train, then make up")
    return 0


def _detected_settings() -> dict[str, str]:
    """Settings detected on this machine, so that plain `docker compose` works without options."""
    values = {"COMPOSE_FILE": compose_files(engine_or_none())}
    owner = Path.cwd().stat()
    uid, gid = (owner.st_uid, owner.st_gid) if owner.st_uid else (CONTAINER_USER, CONTAINER_USER)
    values |= {"ADA_UID": str(uid), "ADA_GID": str(gid or uid)}
    authority = Path(os.environ.get("SSL_CERT_FILE", ""))
    if authority.is_file():
        values["BUILD_CA"] = str(authority)
    wheels = Path(os.environ.get("PIP_FIND_LINKS") or "/nowhere")
    if wheels.is_dir():
        values["BUILD_WHEELS"] = str(wheels)
    return values


def _make_outputs(values: Mapping[str, str]) -> None:
    """Make the folders that the trainer writes to as ADA_UID, also in a checkout owned by root."""
    owner = values["ADA_UID"], values["ADA_GID"]
    if not all(number.isdecimal() for number in owner):
        raise ConfigError(
            f"ADA_UID and ADA_GID in .env are {owner}: they must be numbers, as `id` prints them"
        )
    for path in (Path("outputs"), Path("outputs/runs"), Path("logs")):
        path.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            os.chown(path, *map(int, owner))
        if path.stat().st_uid == os.geteuid() or os.geteuid() == 0:
            path.chmod(0o755)  # whatever the umask was
    if os.geteuid() == 0:
        _open_samples()


def _open_samples() -> None:
    """Make the samples readable for the trainer's user, whatever umask they were cloned under."""
    samples = Path("data/samples")
    if samples.is_dir():
        samples.parent.chmod(samples.parent.stat().st_mode | 0o111)
        samples.chmod(0o755)
        for file in samples.iterdir():
            file.chmod(0o644)


def up() -> int:
    """Build, start, wait until Ada is ready, and print commands to try."""
    engine = find_engine()
    values = check_env() | dict(os.environ)
    files = compose_files(engine)
    if files == CPU_FILES:
        print("Docker has no NVIDIA runtime here: the CPU stack (docker/compose.cpu.yaml)")
    url = _check_place(engine, files, values)
    if compose(files, "up", "--detach", "--build", "--remove-orphans"):
        raise NotReady("docker compose up failed, as it says above")
    started = time.monotonic()
    wait_until_ready(url, files)
    print(f"ready after {time.monotonic() - started:.0f} s\n\n{what_to_try(url)}")
    return 0


def _check_place(engine: DockerEngine, files: str, values: Mapping[str, str]) -> str:
    """Check the free disk space and the port, unless Ada already uses it; returns her URL."""
    images = compose_output(files, "config", "--images").split()
    present = all(run("docker", "image", "inspect", image).returncode == 0 for image in images)
    needed = RUN_GIB if present else BUILD_GIB.get(files, RUN_GIB)
    if engine.root.exists():  # else the engine is on another machine
        free = shutil.disk_usage(engine.root).free / 2**30
        if free < needed:
            wanted = f"Ada needs {needed} to write" if present else f"Ada's images need {needed}"
            raise ConfigError(f"{engine.root} has {free:.1f} GiB free and {wanted}: free some disk")
    host, port = values.get("ADA_PUBLISH") or "127.0.0.1", values.get("ADA_PORT") or "8080"
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"ADA_PORT is {port!r}: it must be a whole number from 1 to 65535")
    if not compose_output(files, "ps", "--quiet", "--status", "running", "orchestrator"):
        check_port("ADA_PORT", host, int(port))
    return http_url(host, port)


def what_to_try(url: str) -> str:
    """The commands to try, printed once Ada is ready."""
    body = '{"model": "ada", "stream": true, "messages": [{"role": "user", "content": "Hello Ada"}]}'
    header, own = ("-H 'Authorization: Bearer YOUR_KEY' ", "YOUR_KEY") if KEYS_FILE.exists() else ("", "none")
    return f"""Ada, an AI persona, is up at {url}. Try:
  curl -N {url}/v1/chat/completions {header}-H 'Content-Type: application/json' -d '{body}'
  curl {url}/v1/diary/entries {header}-H 'Content-Type: application/json' -d '{{"text": "I planted garlic."}}'
  OpenAI(base_url="{url}/v1", api_key="{own}")      # in Python, from any environment
  make chat | make logs | make ps | make down"""


def down() -> int:
    """Stop the deployment; the volumes, which contain the diary, are not removed."""
    return compose(compose_files(find_engine()), "--profile", "train", "down", "--remove-orphans")


def logs() -> int:
    """Follow all logs."""
    return compose(compose_files(find_engine()), "logs", "--follow", "--tail", "100")


def ps() -> int:
    """List every container and its health."""
    return compose(compose_files(find_engine()), "ps", "--all")


def can_train() -> int:
    """0 if training on this machine belongs in the trainer's container, else 1; prints which and why."""
    try:
        engine = find_engine()
    except ConfigError as error:
        return _say(f"training in the local environment ({error})", 1)
    if not ENV.exists():
        return _say(
            "training in the local environment (for the trainer's container, run `make init` first)", 1
        )
    if engine.has_nvidia:
        return _say("training in the trainer's container, on the GPU", 0)
    if shutil.which("nvidia-smi"):
        return _say("training in the local environment, on the GPU: Docker has no NVIDIA runtime", 1)
    return _say("training in the trainer's container, on the CPU: Docker has no NVIDIA runtime here", 0)


def _say(line: str, code: int) -> int:
    print(line, flush=True)
    return code


def train(*arguments: str) -> int:
    """Run the trainer's container with these arguments."""
    check_env()
    files = compose_files(find_engine())
    if compose(files, "build", "trainer"):
        raise ConfigError("the trainer's image can't be built, as it says above")
    if not any(word.startswith("--config") for word in arguments):
        arguments = ("--config", CONFIGS.get(files, CONFIGS[GPU_FILES]), *arguments)
    options = ["--rm", "--env", f"ADA_CODE_REVISION={code_revision(os.environ)}"]
    options += [] if sys.stdin.isatty() else ["--no-TTY"]
    with tempfile.TemporaryDirectory(prefix="ada-train-") as folder:
        # Copies, because the trainer is not root, and the files may be readable by root only.
        for number, file in enumerate(_own_files(arguments)):
            copy = Path(folder, f"{number}-{file.name}")
            shutil.copyfile(file, copy)
            copy.chmod(0o444)
            options += ["--volume", f"{copy}:{Path('/app', file)}:ro,z"]
        return compose(files, "run", *options, "trainer", "python", "-m", "trainer", *arguments)


def _own_files(arguments: tuple[str, ...]) -> list[Path]:
    """The configuration and persona files in the arguments; the container has them under the same names."""
    given = [arguments[index + 1] for index, word in enumerate(arguments[:-1]) if word == "--config"]
    named = [word.partition("=") for word in arguments]
    given += [value for name, _, value in named if name in ("--config", "persona") and value]
    for name in given:
        if not Path(name).is_file():
            raise ConfigError(f"there is no file {name}")
    return [Path(name) for name in given]


if __name__ == "__main__":
    sys.exit(main())
