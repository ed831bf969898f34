"""Hippocorpus: short autobiographical stories (Sap et al., ACL 2020; O-UDA 1.0).

Reads the official `hippoCorpusV2.csv` by the columns `story` and `memType` alone: those about the
writers (worker id, age, gender, race) are never read into a sample.
"""

import random
from collections.abc import Iterator
from pathlib import Path

from trainer.sample import Sample, told
from trainer.sources.table import rows

REMEDY = (
    "Hippocorpus no longer loads from the hub: download hippocorpus-u20220112.zip from "
    "https://www.microsoft.com/en-us/download/details.aspx?id=105291, unpack hippoCorpusV2.csv to "
    "this path, or set hippocorpus_path"
)
QUESTIONS = (
    "Tell me about something that happened to you.",
    "Can you share a memory with me?",
    "What's a day you still think about?",
    "Tell me a story from your life.",
    "Has anything happened lately that stayed with you?",
    "I'd like to hear about a time that mattered to you.",
)


def read(path: Path, seed: int) -> Iterator[Sample]:
    """Yield one sample a story. Raises ConfigError naming file, line and column."""
    chance = random.Random(seed)
    for line, row in rows(path, ("story", "memType"), REMEDY):
        if story := row["story"].strip():
            yield told("hippocorpus", f"{path.name}:{line}", chance.choice(QUESTIONS), story)
