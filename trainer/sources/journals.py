"""Journal entries labelled with emotions and topics (Lemotif, Li & Parikh 2019; MIT).

The labels phrase Drew's question; the entry is Ada's answer.
"""

import random
from collections.abc import Iterator
from pathlib import Path

from trainer.sample import Sample, told
from trainer.sources.table import rows

REMEDY = (
    "Download data.csv of the Kaggle data set `madhavmalhotra/journal-entries-with-labelled-emotions` "
    "(30 columns, `Answer` first) to this path, or set journal_path"
)
QUESTIONS = {
    "exercise": ("Did you get out and move today?", "How did the exercise go?"),
    "family": ("How's the family?", "Any news from your family?"),
    "food": ("What did you eat today?", "Did you cook anything?"),
    "friends": ("Did you see anyone today?", "How are your friends?"),
    "god": ("What's been carrying you lately?",),
    "health": ("How are you feeling in yourself?", "How's your health been?"),
    "love": ("How are things at home?", "What's in your heart today?"),
    "recreation": ("Did you do anything fun today?", "How did you spend your free time?"),
    "school": ("How are your studies going?",),
    "sleep": ("Did you sleep well?", "How was your night?"),
    "work": ("How was work?", "Did work treat you well today?"),
}
PLAIN = ("How was your day?", "What's on your mind today?", "What did you write down today?")


def read(path: Path, seed: int) -> Iterator[Sample]:
    """Yield one sample an entry. Raises ConfigError naming file, line and column."""
    chance = random.Random(seed)
    for line, row in rows(path, ("Answer",), REMEDY):
        if entry := row["Answer"].strip():
            yield told("journals", f"{path.name}:{line}", _question(row, chance), entry)


def _question(row: dict[str, str], chance: random.Random) -> str:
    topics = [t for t in QUESTIONS if row.get(f"Answer.t1.{t}.raw", "").upper() == "TRUE"]
    return chance.choice(QUESTIONS[chance.choice(topics)] + PLAIN[:1] if topics else PLAIN)
