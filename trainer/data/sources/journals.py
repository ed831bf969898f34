"""Journal entries labelled with emotions and topics (Lemotif, Li & Parikh 2019; MIT).

The labels phrase Drew's question; the entry is Ada's answer.
"""

from collections.abc import Iterator
from itertools import product

from trainer.config import TrainingConfig
from trainer.data.rejections import Rejections
from trainer.data.sample import Sample, told
from trainer.data.sources.rows import Lines, Table, fingerprint, is_there, opened

NAME = "journals"
LICENCE = "Lemotif journal entries (Li and Parikh 2019, arXiv 1903.07766), MIT"
REMEDY = (
    "Download data.csv of the Kaggle data set `madhavmalhotra/journal-entries-with-labelled-emotions` "
    "(30 columns, `Answer` first) to this path, or set journal_path"
)
TOPICS = {
    "exercise": ("Did you get out and move today?", "How did the exercise go?"),
    "family": ("How's the family?", "Any news from your family?"),
    "food": ("What did you eat today?", "Did you cook anything?"),
    "friends": ("Did you see anyone today?", "How are your friends?"),
    "god": ("What's been carrying you lately?", "Did you pray today?"),
    "health": ("How are you feeling in yourself?", "How's your health been?"),
    "love": ("How are things at home?", "What's in your heart today?"),
    "recreation": ("Did you do anything fun today?", "How did you spend your free time?"),
    "school": ("How are your studies going?", "What did you learn today?"),
    "sleep": ("Did you sleep well?", "How was your night?"),
    "work": ("How was work?", "Did work treat you well today?"),
}
NOUNS = {"family": "your family", "friends": "your friends", "god": "your faith", "health": "your health"}
NOUNS |= {"love": "love", "recreation": "your free time", "school": "your studies", "sleep": "your sleep"}
EMOTIONS = (
    *("afraid", "angry", "anxious", "ashamed", "awkward", "bored", "calm", "confused", "disgusted"),
    *("excited", "frustrated", "happy", "jealous", "nostalgic", "proud", "sad", "satisfied", "surprised"),
)
FELT = ("You seem {emotion} today. What happened?", "What made you feel {emotion}?")
FELT_ABOUT = (
    "You sound {emotion}. Is it about {topic}?",
    "Tell me about {topic}. What is it that leaves you {emotion}?",
)
PLAIN = (
    "How was your day?",
    "What's on your mind today?",
    "What did you write down today?",
    "Read me something from your journal.",
)


def found(config: TrainingConfig) -> bool:
    """Whether there is a file."""
    return is_there(config.journal_path)


def provenance(config: TrainingConfig) -> dict[str, object]:
    """Which file it was."""
    return fingerprint(config.journal_path)


def read(config: TrainingConfig, drops: Rejections) -> Iterator[Sample]:
    """Yield one sample an entry. Raises ConfigError naming file, line and column."""
    path = config.journal_path
    with opened(path, REMEDY) as file:
        table = Table(Lines(file, str(path), REMEDY, table=True))
        table.need("Answer")
        wanted = ("Answer", *map(_emotion_column, EMOTIONS), *map(_topic_column, TOPICS))
        for line, row in table.rows(wanted, drops):
            if entry := row["Answer"].strip():
                yield told(NAME, f"{path.name}:{line}", _askings(row), entry)
            else:
                drops.drop("empty")


def _emotion_column(emotion: str) -> str:
    return f"Answer.f1.{emotion}.raw"


def _topic_column(topic: str) -> str:
    return f"Answer.t1.{topic}.raw"


def _askings(row: dict[str, str]) -> tuple[str, ...]:
    """How Drew may ask for this entry: by what it is about, by how she felt, by both, or just so."""
    topics = [topic for topic in TOPICS if _holds(row, _topic_column(topic))]
    emotions = [emotion for emotion in EMOTIONS if _holds(row, _emotion_column(emotion))]
    askings = [asking for topic in topics for asking in TOPICS[topic]]
    askings += [asking.format(emotion=emotion) for emotion in emotions for asking in FELT]
    for emotion, topic, asking in product(emotions, topics, FELT_ABOUT):
        askings.append(asking.format(emotion=emotion, topic=NOUNS.get(topic, topic)))
    return (*askings, *PLAIN)


def _holds(row: dict[str, str], column: str) -> bool:
    return row.get(column, "").strip().lower() in ("true", "1")
