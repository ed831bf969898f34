"""The mixture as plain text: a table of the sources, what was left out, and a histogram of the lengths."""

from collections.abc import Iterator, Mapping

from tabulate import tabulate

from trainer.data.inspection import Lengths, histogram, summary
from trainer.data.mixture import Mixture

BAR_WIDTH = 48  # characters of a histogram's longest bar
SHARES = ("share asked", "share reached")
# A smaller difference between requested and reached share is not reported: small mixtures round.
TOLERANCE = 0.03
COUNTS = ("asked", "read", "kept", "used", "repeated", "held_out", "short")


def table(mixture: Mixture, lengths: Lengths | None = None) -> str:
    """A line for each source, then what was left out and why; with `lengths`, also tokens and a histogram."""
    parts = [_aligned(cells(mixture, lengths)), shares_warning(mixture), *left_out(mixture)]
    if lengths:
        parts += [_shortened(lengths), _bars(lengths.total)]
    return "\n\n".join(part for part in parts if part)


def cells(mixture: Mixture, lengths: Lengths | None = None) -> list[list[str]]:
    """The table's cells: a header, a row for each source, and a row of totals."""
    rows, shares = [], {**shares_of(mixture), "total": (1.0, 1.0)}
    for source, stats in [*mixture.source_stats.items(), ("total", total(mixture))]:
        numbers = [stats[name] for name in COUNTS]
        if lengths:
            tokens = lengths.total if source == "total" else lengths.of_source(source)
            numbers += list(summary(tokens).values())[:-1]
        requested, reached = shares[source]
        rows.append([source, *(f"{number:,}" for number in numbers), f"{requested:.0%}", f"{reached:.0%}"])
    token_columns = ["tokens", "median", "p90"] if lengths else []
    return [["source", *(name.replace("_", " ") for name in COUNTS), *token_columns, *SHARES], *rows]


def shares_of(mixture: Mixture) -> dict[str, tuple[float, float]]:
    """Source → its requested share of the mixture, and the share it reached."""
    sums = total(mixture)
    return {
        source: (stats["asked"] / max(1, sums["asked"]), stats["used"] / max(1, sums["used"]))
        for source, stats in mixture.source_stats.items()
    }


def shares_warning(mixture: Mixture) -> str:
    """How much the reached shares differ from the requested ones, and the remedy; empty if they match."""
    shares = shares_of(mixture)
    differing = {
        source: (requested, reached)
        for source, (requested, reached) in shares.items()
        if abs(requested - reached) > TOLERANCE
    }
    if not differing:
        return ""
    differences = ", ".join(
        f"{source} {reached:.0%} for {requested:.0%}" for source, (requested, reached) in differing.items()
    )
    reachable = min(
        (
            int(stats["used"] / shares[source][0])
            for source, stats in mixture.source_stats.items()
            if stats["short"] > 0
        ),
        default=0,
    )
    smaller = f"target_size={reachable} or " if reachable else ""
    return (
        f"WARNING: this is not the mixture that was asked for: {differences}. Bring more of what is short, "
        f"or set {smaller}a higher max_repeats"
    )


def total(mixture: Mixture) -> dict[str, int]:
    """The sum of each count over all sources."""
    return {name: sum(stats[name] for stats in mixture.source_stats.values()) for name in COUNTS}


def left_out(mixture: Mixture) -> Iterator[str]:
    """Paragraphs on what Ada does not learn from: missing sources, rejections by reason, and bad rows."""
    if mixture.missing:
        yield f"missing: {', '.join(mixture.missing)}; the others share what was asked of them"
    dropped = {source: stats["dropped"] for source, stats in mixture.source_stats.items() if stats["dropped"]}
    if dropped:
        lines = [f"  {source}: {_counts(reasons)}" for source, reasons in dropped.items()]
        yield "\n".join(["left out", *lines])
    bad_rows = [message for stats in mixture.source_stats.values() for message in stats["bad_rows"]]
    if bad_rows:
        yield "\n".join(["bad rows, the first of each source", *(f"  {message}" for message in bad_rows)])


def _aligned(rows: list[list[str]]) -> str:
    alignment = ["left", *["right"] * (len(rows[0]) - 1)]
    return tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=alignment)


def _shortened(lengths: Lengths) -> str:
    return f"cut to fit max_seq_length: {_counts(lengths.shortened)}" if lengths.shortened else ""


def _counts(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())


def _bars(lengths: list[int]) -> str:
    bars = histogram(lengths)
    highest = max(count for *_, count in bars) or 1
    edge, width = len(str(bars[-1][1])), len(f"{highest:,}")
    lines = []
    for first, last, count in bars:
        bar = "█" * -(-count * BAR_WIDTH // highest)
        lines.append(f"  {first:>{edge}} to {last:>{edge}}  {count:>{width},}  {bar}".rstrip())
    return "\n".join(["samples by length in tokens", *lines])
