"""How many tokens texts have for the served model."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

from services.errors import ModelUnavailable, UpstreamError
from services.orchestrator.vllm.client import VllmClient

KEPT = 4096  # texts whose number is remembered: about 0.6 MB, however long the texts are
BYTES_A_TOKEN = 4  # of English; the estimate while the model server can't be asked


class TokenCounter:
    """Asks the served model's own tokenizer, and remembers the number of each text by the text's digest."""

    def __init__(self, engine: VllmClient) -> None:
        self._engine = engine
        self._known: OrderedDict[bytes, int] = OrderedDict()

    async def count(self, text: str) -> int:
        """Tokens of a text, or an estimate when the model server can't be reached."""
        encoded = text.encode()
        digest = blake2b(encoded, digest_size=16).digest()
        if digest in self._known:
            self._known.move_to_end(digest)
            return self._known[digest]
        body = {"model": "base", "prompt": text, "add_special_tokens": False}
        try:
            number = len(await self._engine.tokenize(body))
        except (ModelUnavailable, UpstreamError):
            return len(encoded) // BYTES_A_TOKEN + 1
        self._known[digest] = number
        if len(self._known) > KEPT:
            self._known.popitem(last=False)
        return number

    async def counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        return list(await asyncio.gather(*map(self.count, texts)))
