"""Reddit: posts in which people tell of themselves, from a local file or a data set of the hub.

The post is Ada's answer; its title appears only as a quotation in the question. Reddit's markup, links and
edits are removed.
"""

import re
from collections.abc import Iterator
from html import unescape

from trainer.config import TrainingConfig
from trainer.data.sample import Sample, make_sample
from trainer.data.source import Provenance, Rejections
from trainer.data.sources import posts
from trainer.data.sources.rows import exists, fingerprint

NAME = "reddit"
REMEDY = posts.REMEDY
LICENCE = (
    "Reddit posts, their writers' text; SocialGrep/one-million-reddit-confessions is CC-BY-4.0 by its "
    "uploader, another data set has the licence that it states"
)
BY_TITLE = (
    'What happened with "{title}"?',
    'You once wrote "{title}". Tell me.',
    'I still think of that thing of yours, "{title}". What was it about?',
    '"{title}": what is the story behind that?',
)
PLAIN = (
    "What's on your mind?",
    "You look as though you have a story. Tell me.",
    "Tell me something that you haven't told me yet.",
    "What happened?",
    "What have you been carrying around with you?",
)
_SECRET = ("Is there something you never told anybody?", "What's been weighing on you?")
_LOVE = ("How are things between the two of you?", "Tell me about the two of you.")
_PATIENCE = ("Who has been trying your patience?", "Did somebody get what was coming to them?")
_WORK = ("What are people like to work for?", "Do you have a story from work?")
_FRIGHT = ("When were you last really frightened?", "Did you ever meet somebody who scared you?")
_WELL = ("How have you been, really?", "How are you holding up?")
BY_SUBREDDIT = {
    "tifu": ("Have you done anything daft lately?", "What did you get wrong this time?"),
    "amitheasshole": ("Did you fall out with somebody?", "Were you in the wrong, do you think?"),
    "idontworkherelady": ("Did anybody ever take you for somebody else?", "What happened in that shop?"),
    **dict.fromkeys(("confession", "confessions", "offmychest", "trueoffmychest"), _SECRET),
    **dict.fromkeys(("relationships", "relationship_advice", "dating", "dating_advice"), _LOVE),
    **dict.fromkeys(("maliciouscompliance", "pettyrevenge", "prorevenge", "entitledparents"), _PATIENCE),
    **dict.fromkeys(("talesfromtechsupport", "talesfromretail", "talesfromyourserver", "jobs"), _WORK),
    **dict.fromkeys(("letsnotmeet", "creepyencounters"), _FRIGHT),
    **dict.fromkeys(("anxiety", "stress", "depression", "ptsd", "self", "casualconversation"), _WELL),
}
LONGEST_TITLE = 140  # characters; a longer one is a narrative itself

FIRST_PERSON = {"i", "me", "my", "mine", "myself", "we", "us", "our", "ours", "ourselves", "im", "ive"}
_WORD = re.compile(r"\w+")
_REMOVED = re.compile(r"\W*(?:\[\s*(?:removed|deleted)\b[^\]\n]*\]\W*)?", re.IGNORECASE)
_NSFW = re.compile(r"\bnsfw\b", re.IGNORECASE)
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()]*(?:\([^()]*\)[^()]*)*\)")
_ZERO_WIDTH = re.compile("[\u200b\u2060\ufeff]")
_AFTERTHOUGHT = re.compile(r"[\W_]*(?:edit(?:ed|s)?|eta|updated?|tl\W{0,2}dr)\b", re.IGNORECASE)
_LABEL = re.compile(
    r"^\W*(?:(?:tifu|aita|wibta)\b\W*(?:(?:by|for|if)\b)?|[\[(][^\])]{0,30}[\])])\s*", re.IGNORECASE
)


def is_available(config: TrainingConfig) -> bool:
    """Whether the file exists; a data set of the hub is checked only when it is read."""
    return config.reddit_path is None or exists(config.reddit_path)


def provenance(config: TrainingConfig) -> Provenance:
    """The file and its hash, or the data set, with its revision where the hub reports it."""
    if config.reddit_path:
        return fingerprint(config.reddit_path)
    data_set: Provenance = {"dataset": config.reddit_dataset, "split": config.reddit_split}
    revision = _revision(config.reddit_dataset)
    return data_set | ({"revision": revision} if revision else {})


def _revision(dataset: str) -> str | None:
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(dataset, timeout=10).sha
    except Exception:  # the revision is informative: no failure here may end a run
        return None


def read_samples(config: TrainingConfig, rejections: Rejections) -> Iterator[Sample]:
    """Yield one sample per post. Raises ConfigError that names file and line, or data set, and the field."""
    for post in posts.read_posts(config, rejections):
        text = tidy(post.text)
        if reason := _rejection(post, text, config.reddit_first_person):
            rejections.add(reason)
        else:
            yield make_sample(NAME, post.origin, _prompts(post), text)


def tidy(text: str) -> str:
    """A post without Reddit's own: entities, links, zero-width marks, edits and summaries."""
    text = unescape(unescape(text))  # data dumps hold `&amp;#x200B;`
    text = _LINK.sub(r"\1", _ZERO_WIDTH.sub("", text))
    paragraphs = (line.strip() for line in text.splitlines() if not _AFTERTHOUGHT.match(line))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(paragraphs)).strip()


def first_person(text: str) -> float:
    """The share of words in the first person: I, I'm, me, my, we, our …"""
    words = _WORD.findall(text.lower().replace("_", " "))
    return sum(map(FIRST_PERSON.__contains__, words)) / max(1, len(text.split()))


def _rejection(post: posts.Post, text: str, min_first_person: float) -> str:
    if _REMOVED.fullmatch(text):
        return "removed or deleted"
    if post.nsfw or _NSFW.search(post.title):
        return "NSFW"
    return "not first-person" if first_person(text) < min_first_person else ""


def _prompts(post: posts.Post) -> tuple[str, ...]:
    """The ways to ask for it: by its title, by its subreddit, or without either."""
    title = _quotable(post.title)
    by_title = tuple(prompt.format(title=title) for prompt in BY_TITLE if title)
    return by_title + BY_SUBREDDIT.get(post.subreddit.lower().removeprefix("r/"), ()) + PLAIN


def _quotable(title: str) -> str:
    """A title to be quoted, without `TIFU by` or `[25F]`; blank for one that can't be."""
    title = _LABEL.sub("", " ".join(tidy(title).split())).replace('"', "'").rstrip(" .…")
    return title if len(title) <= LONGEST_TITLE and re.search(r"\w", title) else ""
