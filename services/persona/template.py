"""The chat template with a persona's names filled in, and its fingerprint.

One text serves both sides: the trainer hands it to TRL, `services/model` hands the saved copy to vLLM.
`render` is the same template without a tokenizer, for those who have none (the orchestrator, tests).
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.errors import UnknownRole
from services.persona.persona import Persona

_NAMES = re.compile("USER_NAME|ASSISTANT_NAME")
_SOURCE = Path(__file__).with_name("chat_template.jinja")


def template_for(persona: Persona) -> str:
    """Ada's chat template as text, with the names of `persona`."""
    source = _SOURCE.read_text(encoding="utf-8").rstrip("\n")
    names = {"USER_NAME": persona.user_name, "ASSISTANT_NAME": persona.assistant_name}
    return _NAMES.sub(lambda match: _in_quotes(names[match[0]]), source)


def _in_quotes(name: str) -> str:
    """A name as it stands inside a Jinja string: O'Brien must not end it."""
    return name.replace("'", "\\'")


def template_sha256(template: str) -> str:
    """Fingerprint of a template, as the manifest records it."""
    return hashlib.sha256(template.encode()).hexdigest()


def render(
    template: str,
    messages: Sequence[Mapping[str, str]],
    *,
    add_generation_prompt: bool = False,
    enable_thinking: bool = False,
) -> str:
    """Render a conversation to text exactly as transformers and vLLM do.

    Raises UnknownRole for a role other than system, user or assistant.
    """
    try:
        return (
            _environment()
            .from_string(template)
            .render(
                messages=messages,
                add_generation_prompt=add_generation_prompt,
                enable_thinking=enable_thinking,
            )
        )
    except TemplateError as error:
        raise UnknownRole(str(error), "messages") from None


class _GenerationTag(Extension):
    """`{% generation %}` marks what carries loss; for plain rendering it is transparent."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    # trim_blocks and lstrip_blocks as in transformers' own compiler of chat templates.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag]
    )
    environment.globals["raise_exception"] = _raise_exception
    return environment


def _raise_exception(message: str) -> None:
    raise TemplateError(message)
