"""Journal entries labelled with emotions and topics (Lemotif, Li & Parikh 2019; MIT).

The labels phrase the user's question; the entry is Ada's answer.
"""

from collections.abc import Iterator
from itertools import product

from trainer.config import TrainingConfig
from trainer.data.sample import Sample, make_sample
from trainer.data.source import Provenance, Rejections
from trainer.data.sources.rows import Lines, Table, exists, fingerprint, opened

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


def is_available(config: TrainingConfig) -> bool:
    """Whether the file exists."""
    return exists(config.journal_path)


def provenance(config: TrainingConfig) -> Provenance:
    """The file and its hash."""
    return fingerprint(config.journal_path)


def read_samples(config: TrainingConfig, rejections: Rejections) -> Iterator[Sample]:
    """Yield one sample per entry. Raises ConfigError that names file, line and column."""
    path = config.journal_path
    with opened(path, REMEDY) as file:
        table = Table(Lines(file, str(path), REMEDY, table=True))
        table.need("Answer")
        wanted = ("Answer", *map(_emotion_column, EMOTIONS), *map(_topic_column, TOPICS))
        for line, row in table.rows(wanted, rejections):
            if entry := row["Answer"].strip():
                yield make_sample(NAME, f"{path.name}:{line}", _prompts(row), entry)
            else:
                rejections.add("empty")


def _emotion_column(emotion: str) -> str:
    return f"Answer.f1.{emotion}.raw"


def _topic_column(topic: str) -> str:
    return f"Answer.t1.{topic}.raw"


def _prompts(row: dict[str, str]) -> tuple[str, ...]:
    """The ways to ask for this entry: by topic, by emotion, by both, or without either."""
    topics = [topic for topic in TOPICS if _is_set(row, _topic_column(topic))]
    emotions = [emotion for emotion in EMOTIONS if _is_set(row, _emotion_column(emotion))]
    prompts = [prompt for topic in topics for prompt in TOPICS[topic]]
    prompts += [prompt.format(emotion=emotion) for emotion in emotions for prompt in FELT]
    for emotion, topic, prompt in product(emotions, topics, FELT_ABOUT):
        prompts.append(prompt.format(emotion=emotion, topic=NOUNS.get(topic, topic)))
    return (*prompts, *PLAIN)


def _is_set(row: dict[str, str], column: str) -> bool:
    return row.get(column, "").strip().lower() in ("true", "1")
