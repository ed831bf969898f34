"""metrics.jsonl: one line per log of the run, and what is computed from them."""

import json
from pathlib import Path

from services.files import PART, write_atomic

METRICS = "metrics.jsonl"
ALL_SOURCES = "all"
EVAL_LOSS = f"eval_{ALL_SOURCES}_loss"
Line = dict[str, float]


def read_lines(path: Path, up_to_step: int | None = None) -> list[Line]:
    """Read a JSONL file whose lines have a step; a truncated last line, left by a kill, is dropped."""
    lines: list[Line] = []
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:  # truncated, perhaps inside a character; or the empty string after the last line
            break
    return [line for line in lines if up_to_step is None or line["step"] <= up_to_step]


def truncate_lines(path: Path, up_to_step: int) -> list[Line]:
    """Drop a JSONL file's lines after `up_to_step`, and return the others."""
    lines = read_lines(path, up_to_step)
    # Several processes of one run do this at the same time, so the file is replaced atomically.
    write_atomic(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return lines


def eval_losses(lines: list[Line]) -> dict[str, list[float]]:
    """Source → held-out loss (nats per token) at the first and at the last evaluation."""
    losses: dict[str, list[float]] = {}
    for line in lines:
        for name, value in line.items():
            if name.startswith("eval_") and name.endswith("_loss"):
                source = name.removeprefix("eval_").removesuffix("_loss")
                losses.setdefault(source, [value, value])[1] = value
    return losses


def losses_at(lines: list[Line], step: int) -> dict[str, float]:
    """Source → held-out loss at one step."""
    at_step = eval_losses([line for line in lines if line["step"] == step])
    return {source: loss for source, (_, loss) in at_step.items()}


def median_speed(lines: list[Line]) -> float:
    """Tokens per second of the median step."""
    speeds = sorted(line["tokens_per_s"] for line in lines if "tokens_per_s" in line)
    return speeds[len(speeds) // 2] if speeds else 0.0


def plot_loss(folder: Path) -> None:
    """Draw a run's loss.png: training loss by step; held-out loss, overall and by source, as dots."""
    import matplotlib.pyplot as plt  # takes a second, which no other caller should wait for

    lines = read_lines(folder / METRICS)
    plt.switch_backend("Agg")
    figure, axes = plt.subplots(figsize=(8, 4.5), dpi=120)
    for key in sorted({key for line in lines for key in line if key == "loss" or key.endswith("_loss")}):
        points = [(line["step"], line[key]) for line in lines if key in line]
        label = "training" if key == "loss" else f"held out: {key[5:-5]}"
        axes.plot(*zip(*points, strict=True), "-" if key == "loss" else "o--", label=label, linewidth=1)
    axes.set(xlabel="step", ylabel="loss (nats per token)", title=folder.name.removesuffix(PART))
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(folder / "loss.png")
    plt.close(figure)
