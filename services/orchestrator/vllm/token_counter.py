"""Counts the tokens of texts with the served model's tokenizer."""

import asyncio
from collections.abc import Sequence
from hashlib import blake2b

from cachetools import LRUCache

from services.errors import ModelUnavailable, UpstreamError
from services.orchestrator.vllm.client import VllmClient

CACHE_SIZE = 4096  # counts, which take about 0.6 MB, however long the texts are
BYTES_PER_TOKEN = 4  # of English; for the estimate while vLLM can't be reached


class TokenCounter:
    """Asks vLLM for the number of tokens, and caches it under the digest of the text."""

    def __init__(self, client: VllmClient) -> None:
        self._client = client
        self._counts: LRUCache[bytes, int] = LRUCache(CACHE_SIZE)

    async def count(self, text: str) -> int:
        """Tokens of a text, or an estimate when vLLM can't be reached."""
        encoded = text.encode()
        digest = blake2b(encoded, digest_size=16).digest()
        if (cached := self._counts.get(digest)) is not None:
            return cached
        body = {"model": "base", "prompt": text, "add_special_tokens": False}
        try:
            count = len(await self._client.tokenize(body))
        except (ModelUnavailable, UpstreamError):
            return len(encoded) // BYTES_PER_TOKEN + 1
        self._counts[digest] = count
        return count

    async def counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        return list(await asyncio.gather(*map(self.count, texts)))
