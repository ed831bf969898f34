"""The reasons to reject a conversation, and the check for those that a single line shows."""

import re

EMPTY = "empty"
CUT_OFF = "cut off"
SHORT = "too short for its plan"
LONG = "too long for its plan"
DUPLICATE = "near-duplicate"
AI = "speaks as an AI"
PLACEHOLDER = "a placeholder left open"
REFUSED = "refused by the server"
BACKSTORY = "contradicts the backstory"
JUDGED = f"{BACKSTORY} (judge)"
UNDECIDED = "no yes or no from the judge"

# Models count words badly, so a line may miss the plan's range by this factor on either side.
_SLACK = 2
_PLACEHOLDER = re.compile(r"\[[^\[\]\n]*\]|\{[a-z_ ]+\}|<(?:your|insert|name)[^<>\n]*>", re.IGNORECASE)
_AI = re.compile(
    r"\bas an? (?:AI|artificial|virtual|digital|(?:large )?language)\b"
    r"|\blanguage models?\b|\bartificial intelligence\b|\bchat ?bots?\b|\b(?:virtual|AI) assistant\b"
    r"|\bI(?:['’]m| am)(?: just| only)? an? (?:AI|(?:computer )?program|machine|assistant|digital)\b"
    r"|\bI (?:do not|don['’]t|cannot|can['’]t) (?:actually |really |physically )?have "
    r"(?:an? |any )?(?:(?:physical|human|real|personal) )*"
    r"(?:body|form|feelings?|emotions?|consciousness|senses|experiences?|opinions?|preferences?)\b"
    r"|\bI (?:was|am|have been) (?:trained on|programmed)\b|\bmy (?:training data|programming|knowledge cut)"
    r"|\b(?:ChatGPT|OpenAI|Anthropic|Qwen|SmolLM|Alibaba|DeepSeek)\b"
    r"|\bI(?:['’]m| am) (?:happy|here) to (?:help|assist)\b|\bhow (?:can|may) I (?:help|assist) you\b"
    r"|\b(?:backstory|role-?play(?:ing)?|fictional)\b",
    re.IGNORECASE,
)


class Rejected(Exception):
    """A conversation is rejected; `reason` is counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def check_line(words: str, word_range: tuple[int, int]) -> None:
    """Check a line's length, and for what no person says. Raises Rejected."""
    length = len(words.split())
    if not length:
        raise Rejected(EMPTY)
    if _AI.search(words):
        raise Rejected(AI)
    if _PLACEHOLDER.search(words):
        raise Rejected(PLACEHOLDER)
    if length * _SLACK < word_range[0]:
        raise Rejected(SHORT)
    if length > word_range[1] * _SLACK:
        raise Rejected(LONG)
