"""The speed of training on this machine, compared with plain TRL, packed TRL and Unsloth.

python -m trainer.bench [--model ID or folder] [--steps 12] [--only NAME ...] [name=value ...]

Every recipe trains a LoRA of rank 64 on the same random tokens, in samples as long as the real mixture's
(log-normal, mean about 320 tokens), in a process of its own. Prints a table, writes outputs/bench/train.json.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from services.errors import AdaError
from services.process import gpu_lock
from trainer.bench.recipes import ON_A_SMALL_CARD, OTHERS, SPEED, WARM_UP, Row, measure, on_cuda

RESULT = "BENCH "
NOT_INSTALLED = "not installed"
OPTIONAL = ("unsloth", "bitsandbytes")
_BAR = re.compile(r" *\d+%\|[^|]*\|[^\[\]]*\[[^\]]*\]")


def main() -> int:
    """Entry point; a recipe without its packages is named and skipped, one that fails is exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m trainer.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="Qwen/Qwen3-8B")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=2048, help="a row")
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--only", action="append", choices=[*SPEED, *OTHERS])
    parser.add_argument("--out", type=Path, default=Path("outputs/bench/train.json"))
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="for Ada, such as batch_size=8")
    parser.add_argument("--here", help=argparse.SUPPRESS)  # run this one recipe in this process
    arguments = parser.parse_args()
    if arguments.steps <= WARM_UP:
        parser.error(f"--steps {arguments.steps}: the first {WARM_UP} are not counted, ask for more")
    if arguments.here:
        return _here(arguments)
    has_card = on_cuda()
    if lock := gpu_lock.lock_path(os.environ, on_gpu=has_card):
        gpu_lock.hold(lock, "bench")
    rows = [
        _in_its_own_process(name)
        for name in arguments.only or (*SPEED, *OTHERS)
        if has_card or name != ON_A_SMALL_CARD
    ]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(table(rows), f"\n{arguments.out}", sep="\n")
    return int(any("failed" in row and not str(row["failed"]).startswith(NOT_INSTALLED) for row in rows))


def _here(arguments: argparse.Namespace) -> int:
    """Measure one recipe in this process; the reason for a failure is a result too, on a line of its own."""
    try:
        row = measure(arguments.here, arguments)
    except ModuleNotFoundError as error:
        row = {"failed": f"{NOT_INSTALLED}: {error.name}" if error.name in OPTIONAL else _words(error)}
        traceback.print_exc()
    except Exception as error:
        row = {"failed": _words(error)}
        traceback.print_exc()
    print(f"\n{RESULT}{json.dumps(row)}", flush=True)
    return int("failed" in row)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _in_its_own_process(name: str, command: Sequence[str] = ()) -> Row:
    command = command or [sys.executable, "-m", "trainer.bench", *sys.argv[1:], "--here", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    results = [line for line in done.stdout.splitlines() if line.startswith(RESULT)]
    row = json.loads(results[-1].removeprefix(RESULT)) if results else {"failed": _last_words(done)}
    if reason := row.get("failed"):
        print(f"{name}: not measured ({reason[:200]})", flush=True)
        if not reason.startswith(NOT_INSTALLED):
            print(without_bars(done.stderr), file=sys.stderr, flush=True)
        return {"recipe": name, "failed": reason}
    print(f"{name}: {row['tokens_per_s']:,.0f} tokens/s", flush=True)
    return row


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    """How a process without a result ended: by a signal, or by an error that Python could not catch."""
    ended = f"killed by signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    lines = without_bars(done.stderr).splitlines()
    return ": ".join([ended, *lines[-1:]])


def without_bars(text: str) -> str:
    """A terminal's output without its progress bars."""
    lines = (_BAR.sub("", line).rstrip() for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def table(rows: list[Row]) -> str:
    """One line per recipe; a recipe that could not be measured says so."""
    head = ["recipe", "tokens/s", "s/step", "GiB", "first loss", "last loss", "plan"]
    alignment = ["left", *["right"] * 5, "left"]
    return tabulate([head, *map(_cells, rows)], tablefmt="plain", disable_numparse=True, colalign=alignment)


def _cells(row: Row) -> list[str]:
    if "failed" in row:
        return [row["recipe"], *[""] * 5, f"not measured: {str(row['failed'])[:70]}"]
    costs = [f"{row['tokens_per_s']:,.0f}", f"{row['s_per_step']:.2f}", f"{row['peak_gib']:.2f}"]
    return [row["recipe"], *costs, f"{row['first_loss']:.4f}", f"{row['last_loss']:.4f}", row["plan"]]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AdaError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(2)
