"""The results of a sweep: a table of all its runs, as text and as JSON, and a plot."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from services.files import atomic_file, write_atomic
from services.persona.manifest import read_manifest
from trainer.runs.metrics import ALL_SOURCES, METRICS, median_speed, read_lines
from trainer.sweep.grid import Point, Row, Sweep
from trainer.sweep.state import State, complete_run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TABLE_JSON, TABLE, PLOT = "table.json", "table.txt", "plot.png"
LEGEND_ALWAYS = 2  # lines of a legend: what is drawn solid, and what dashed
OWN_WORDS = "conversations"  # the source whose held-out loss says most about Ada herself
Draw = Callable[[list[Row], Path], None]


def report(sweep: Sweep, state: State, draw: Draw) -> list[Row]:
    """Write table.json, table.txt and plot.png; returns the table's rows, one per point."""
    rows = [_row(sweep, point, state) for point in sweep.points]
    write_atomic(sweep.folder / TABLE_JSON, json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    write_atomic(sweep.folder / TABLE, table(rows) + "\n")
    draw(rows, sweep.folder / PLOT)
    return rows


def _row(sweep: Sweep, point: Point, state: State) -> Row:
    run = complete_run(sweep, point, state)
    if run:
        return {"settings": point.varied, "status": "complete", **_numbers(run)}
    if failure := state.record_of(point).get("failed"):
        return {"settings": point.varied, "status": "failed", "failure": failure}
    return {"settings": point.varied, "status": "not trained yet"}


def _numbers(run: Path) -> Row:
    """A complete run's measurements; held-out losses (nats per token) before and after, all and by source."""
    manifest = read_manifest(run)
    parts: list[Row] = list(manifest.dataset.values())
    return {
        "run": manifest.run_id,
        "samples": sum(part["used"] - part["held_out"] for part in parts),
        "tokens": manifest.tokens,
        "steps": manifest.steps,
        "held_out": {ALL_SOURCES: [manifest.loss_before, manifest.loss_after], **manifest.loss_by_source},
        "tokens_per_s": round(median_speed(read_lines(run / METRICS)), 1),
        "peak_memory_gib": manifest.peak_memory_gib,
        "minutes": round(sum(manifest.timings_s.values()) / 60, 2),
    }


def table(rows: list[Row]) -> str:
    """The rows as text; a point without a run has the reason instead of the run's name."""
    sources = list(dict.fromkeys(source for row in rows for source in row.get("held_out", {})))
    head = [*rows[0]["settings"], "samples", "tokens", "steps", *(f"loss: {source}" for source in sources)]
    head += ["tokens/s", "peak GiB", "minutes"]
    lines = [[*head, "run"], *(_cells(row, sources, len(head)) for row in rows)]
    alignment = [*["right"] * len(head), "left"]
    text = tabulate(lines, tablefmt="plain", disable_numparse=True, colalign=alignment)
    return "\n".join([text, *_caution(rows)])


def _cells(row: Row, sources: list[str], columns: int) -> list[str]:
    settings = [str(value) for value in row["settings"].values()]
    if row["status"] != "complete":
        words = ": ".join(filter(None, (row["status"], row.get("failure"))))
        return [*settings, *[""] * (columns - len(settings)), words]
    losses = [_before_and_after(row["held_out"].get(source)) for source in sources]
    counts = [f"{row[name]:,}" for name in ("samples", "tokens", "steps")]
    costs = [f"{row['tokens_per_s']:,.0f}", f"{row['peak_memory_gib']:.1f}", f"{row['minutes']:.1f}"]
    return [*settings, *counts, *losses, *costs, row["run"]]


def _before_and_after(losses: list[float] | None) -> str:
    return f"{losses[0]:.3f} → {losses[1]:.3f}" if losses else "-"


def _caution(rows: list[Row]) -> list[str]:
    """A warning when the losses before training differ, which the same held-out samples would not cause."""
    before = [row["held_out"][ALL_SOURCES][0] for row in rows if "held_out" in row]
    if not before or max(before) - min(before) < 0.01 * max(before):
        return []
    return [
        "The losses before training differ, so not all runs were measured on the same held-out samples: "
        "compare what each gained, source by source."
    ]


def plot(rows: list[Row], path: Path) -> None:
    """Draw held-out loss after training against each varied number, a line per combination of the others."""
    import matplotlib.pyplot as plt  # takes a second, which a mistake in the grid should not wait for

    plt.switch_backend("Agg")
    names = _panels(rows)
    lines = max(len({_label(row, _others(rows, name)) for row in rows}) for name in names)
    size = (0.8 + 5.2 * len(names), 4.4 + 0.19 * (lines + LEGEND_ALWAYS))
    figure, (panels,) = plt.subplots(
        1, len(names), figsize=size, dpi=120, sharey=True, squeeze=False, layout="constrained"
    )
    for axes, name in zip(panels, names, strict=True):
        _panel(axes, name, rows)
    panels[0].set_ylabel("held-out loss after training (nats per token)")
    figure.suptitle(f"sweep {path.parent.name}")
    with atomic_file(path) as file:
        figure.savefig(file, format="png")
    plt.close(figure)


def _panels(rows: list[Row]) -> list[str]:
    """The settings that are varied and numbers; where there are none, the first one."""
    numbers = [name for name in rows[0]["settings"] if all(map(_is_number, _values(rows, name)))]
    return [name for name in numbers if len(_values(rows, name)) > 1] or [*rows[0]["settings"]][:1]


def _panel(axes: "Axes", name: str, rows: list[Row]) -> None:
    from matplotlib import colormaps

    values = _values(rows, name)
    on_a_scale = all(map(_is_number, values))
    places = values if on_a_scale else list(range(len(values)))
    others = _others(rows, name)
    lines = list(dict.fromkeys(_label(row, others) for row in rows))
    for number, label in enumerate(lines):
        colour = colormaps["viridis"](0.85 * number / max(1, len(lines) - 1))
        line = [row for row in rows if "held_out" in row and _label(row, others) == label]
        for source, style in ((ALL_SOURCES, "o-"), (OWN_WORDS, "s--")):
            points = [
                (places[values.index(row["settings"][name])], row["held_out"][source][1])
                for row in line
                if source in row["held_out"]
            ]
            axes.plot(*zip(*sorted(points), strict=True) if points else ([], []), style, color=colour)
        axes.plot([], [], color=colour, linewidth=4, label=label)
    axes.plot([], [], "o-", color="gray", label="all held-out samples")
    axes.plot([], [], "s--", color="gray", label="Ada's own conversations")
    if on_a_scale and min(values) > 0:
        axes.set_xscale("log", base=2)
    axes.set_xticks(places, [f"{value:g}" if on_a_scale else str(value) for value in values], minor=False)
    axes.minorticks_off()
    axes.set_xlabel(name)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize="small", frameon=False)


def _others(rows: list[Row], name: str) -> list[str]:
    """The other settings that are varied: a line in a panel is one combination of them."""
    return [other for other in rows[0]["settings"] if other != name and len(_values(rows, other)) > 1]


def _values(rows: list[Row], name: str) -> list[Any]:
    """What a setting is in the sweep: each value once."""
    values: list[Any] = []
    for row in rows:
        if row["settings"][name] not in values:
            values.append(row["settings"][name])
    return sorted(values) if all(map(_is_number, values)) else values


def _label(row: Row, others: list[str]) -> str:
    return ", ".join(f"{other}={row['settings'][other]}" for other in others) or "held-out loss"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
