"""The index in a Qdrant server, for a deployment with more than one process.

The worker holds the key that may write; the orchestrator's key may only read, so it never makes anything.
"""

import re
from collections.abc import Callable, Sequence
from importlib.metadata import version as installed
from typing import TypeVar

import httpx
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from services.diary.embedder import Vector
from services.diary.index import Chunk, Hit, collection_name
from services.errors import DiaryUnavailable

_VECTOR = "dense"
_TIMEOUT_S = 2  # whoever waits for an answer of Ada's waits for this too when Qdrant hangs
Answer = TypeVar("Answer")


class QdrantIndex:
    """An `IndexEngine` in a collection named after the embedding model and its dimension."""

    def __init__(
        self, url: str, api_key: str, model: str, dimension: int, timeout_s: int = _TIMEOUT_S
    ) -> None:
        """Reach nothing yet: Qdrant may come later."""
        self.collection = collection_name(model, dimension)
        self._url = url
        self._dimension = dimension
        # The keys travel inside the deployment's own network, without TLS, which the client warns of
        # when it is given the key by name.
        self._client = QdrantClient(
            url=url, headers={"api-key": api_key}, timeout=timeout_s, check_compatibility=False
        )

    def ensure(self) -> None:
        """Make the collection if it is not there; needs the key that may write. Raises DiaryUnavailable."""
        self._check_version()
        if self._asked(lambda: self._client.collection_exists(self.collection)):
            return
        self._asked(self._create)

    def _create(self) -> None:
        self._client.create_collection(
            self.collection,
            vectors_config={
                _VECTOR: models.VectorParams(size=self._dimension, distance=models.Distance.COSINE)
            },
        )
        owner = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
        for key, kind in (
            ("owner", owner),
            ("entry_id", models.PayloadSchemaType.KEYWORD),
            ("day", models.PayloadSchemaType.DATETIME),
        ):
            self._client.create_payload_index(self.collection, key, kind)

    def check(self) -> None:
        """Raises DiaryUnavailable when the server is the wrong one, or has nothing to search in yet."""
        self._check_version()
        self.count()

    def _check_version(self) -> None:
        """Raises DiaryUnavailable when the server is not one that this client is made for.

        Qdrant's client promises to work with servers of its own minor version and of the two beside it.
        """
        served = str(self._asked(self._client.info).version)
        client = installed("qdrant-client")
        if not compatible(served, client):
            raise DiaryUnavailable(
                f"Qdrant at {self._url} is version {served}, and this Ada speaks to {client} and its "
                f"neighbours: set QDRANT_IMAGE to v{client}"
            )

    def upsert(self, chunks: Sequence[Chunk]) -> None:
        """Write chunks, replacing those with the same ids."""
        points = [
            models.PointStruct(
                id=chunk.point_id,
                vector={_VECTOR: chunk.vector},
                payload=chunk.payload,
            )
            for chunk in chunks
        ]
        if points:
            self._asked(lambda: self._client.upsert(self.collection, points, wait=True))

    def search(
        self, owner: str, vector: Vector, limit: int, first_day: str = "", last_day: str = ""
    ) -> list[Hit]:
        """The owner's nearest chunks, best first."""
        must: list[models.Condition] = [_is("owner", owner)]
        if first_day or last_day:
            days = models.DatetimeRange.model_validate({"gte": first_day or None, "lte": last_day or None})
            must.append(models.FieldCondition(key="day", range=days))
        found = self._asked(
            lambda: self._client.query_points(
                self.collection,
                query=vector,
                using=_VECTOR,
                query_filter=models.Filter(must=must),
                limit=limit,
                with_payload=True,
            )
        )
        return [Hit.of(point.payload or {}, point.score) for point in found.points]

    def delete(self, owner: str, entry_id: str) -> None:
        """Remove all chunks of an entry."""
        chosen = models.Filter(must=[_is("owner", owner), _is("entry_id", entry_id)])
        self._asked(
            lambda: self._client.delete(self.collection, models.FilterSelector(filter=chosen), wait=True)
        )

    def count(self) -> int:
        """Chunks of all owners."""
        return self._asked(lambda: self._client.count(self.collection)).count

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def _asked(self, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except UnexpectedResponse as error:
            raise DiaryUnavailable(f"Qdrant at {self._url} refused: {_reason(error)}") from error
        except (ApiException, ResponseHandlingException, httpx.HTTPError, OSError) as error:
            raise DiaryUnavailable(f"Qdrant at {self._url} can't be reached: {error}") from error


def compatible(server: str, client: str) -> bool:
    """Whether two versions such as 1.20.3 are at most one minor version apart."""
    parts = [re.match(r"v?(\d+)\.(\d+)", version) for version in (server, client)]
    if not all(parts):
        return False
    (major, minor), (other_major, other_minor) = [(int(p[1]), int(p[2])) for p in parts if p]
    return major == other_major and abs(minor - other_minor) <= 1


def _is(key: str, value: str) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def _reason(error: UnexpectedResponse) -> str:
    body = error.content.decode(errors="replace") if error.content else error.reason_phrase
    return f"{error.status_code} {' '.join(body.split())[:300]}"
