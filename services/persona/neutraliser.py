"""Makes control marks in text inert: no text from a user, a diary or a data set can write a control token.

Tokenizers turn certain strings into single control ids wherever they stand. A zero-width space after
the opening `<` breaks every such string without changing how the text looks. Nothing is removed, so no mark
can form from the remaining pieces.

Covered: every `<|...|>` mark, and the bare marks of Qwen3, SmolLM2 and their relatives that
`services.chat_markup` lists. A new base model may bring others: the tests read each tokenizer's own list
and fail on a missing mark.
"""

from services.chat_markup import OPENING

ZERO_WIDTH_SPACE = "\u200b"


def neutralise(text: str) -> str:
    """Return `text` with every control mark in it made inert; other text is unchanged."""
    return OPENING.sub("<" + ZERO_WIDTH_SPACE, text)


def find_mark(text: str) -> int:
    """The index of the first control mark in a text, or -1."""
    match = OPENING.search(text)
    return match.start() if match else -1
