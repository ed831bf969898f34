"""The control marks of chat templates, the marks around a model's reasoning, and text without them.

Tokenizers turn certain strings into single control tokens wherever they stand: every `<|...|>`, and the bare
marks of Qwen3, SmolLM2 and their relatives listed below.
"""

import re

IM_START, IM_END = "<|im_start|>", "<|im_end|>"  # of ChatML, around a turn
THINK, THINK_END = "<think>", "</think>"
BARE_MARKS = (
    "think",
    "tool_call",
    "tool_response",
    "repo_name",
    "reponame",
    "file_sep",
    "filename",
    "gh_stars",
    "issue_start",
    "issue_comment",
    "issue_closed",
    "jupyter_start",
    "jupyter_text",
    "jupyter_code",
    "jupyter_output",
    "jupyter_script",
    "empty_output",
)
# The `<` with which a control mark opens.
OPENING = re.compile(rf"<(?=\||/?(?:{'|'.join(BARE_MARKS)})>)")

_SPECIAL = r"<\|[^|<>\n]{0,64}\|>"
# Where one turn ends and another may begin, in the templates of ChatML, Llama and Gemma.
TURN_BREAK = re.compile(rf"{re.escape(IM_START)}\w*\n?|{_SPECIAL}|</?s>|<(?:start|end)_of_turn>")
# One that is not closed reaches to the end; one without an opening mark was opened by the template.
_REASONING = re.compile(
    rf"{THINK}.*?({THINK_END}|\Z)|\A(?:(?!{THINK}).)*?{THINK_END}",
    re.DOTALL,
)
_HEADER = re.compile(rf"\A\s*{re.escape(IM_START)}[^\n]*\n")
_END = re.compile(r"<\|(im_end|im_start|endoftext|eot_id)\|>|</s>")
_MARK = re.compile(rf"{_SPECIAL}|</?think>")


def strip_reasoning(text: str) -> str:
    """The text without what a model wrote to itself between `<think>` and `</think>`."""
    return _REASONING.sub("", text)


def strip_markup(answer: str) -> str:
    """A model's answer without reasoning, turn headers and control marks, up to the end of its turn."""
    text = _END.split(_HEADER.sub("", strip_reasoning(answer)), maxsplit=1)[0]
    while (shorter := _MARK.sub("", text)) != text:  # the rest may close to another mark
        text = shorter
    return text.strip()
