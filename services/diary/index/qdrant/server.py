"""A Qdrant server: its collections, the aliases that point at them, its version and its errors."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed

import httpx
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from services.diary.index.types import DENSE, SPARSE
from services.errors import DiaryUnavailable

log = logging.getLogger("ada.diary")
_DIARY_ALIAS = re.compile(r".+-\d+-f\d+")  # what `collection_name` returns


class QdrantServer:
    """A client of one server. Every method raises DiaryUnavailable."""

    def __init__(self, url: str, api_key: str, timeout_s: int) -> None:
        """Connects at the first call, so Qdrant may start later."""
        self._url = url
        # The keys travel inside the deployment's own network, without TLS. The client warns about that unless
        # the key is a header.
        self.client = QdrantClient(
            url=url,
            headers={"api-key": api_key},
            timeout=timeout_s,
            check_compatibility=False,
            trust_env=False,  # a proxy does not reach the deployment's own network
        )

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Raises DiaryUnavailable for the errors of the client."""
        try:
            yield
        except UnexpectedResponse as error:
            raise DiaryUnavailable(f"Qdrant refused: {_reason(error)}") from error
        except (ApiException, ResponseHandlingException, httpx.HTTPError, OSError) as error:
            # The message reaches clients of the API, who must not learn the addresses of servers.
            log.warning("Qdrant at %s can't be reached: %s", self._url, error)
            raise DiaryUnavailable("Qdrant can't be reached; the log says more") from error

    def check_version(self) -> None:
        """Raises DiaryUnavailable unless the server fits this client.

        Qdrant's client supports servers of its own minor version and of the two next to it.
        """
        with self.translated_errors():
            server = str(self.client.info().version)
        client = installed("qdrant-client")
        if not compatible(server, client):
            raise DiaryUnavailable(
                f"Qdrant is version {server}, and this Ada speaks to {client} and its "
                f"neighbours: set QDRANT_IMAGE to v{client}"
            )

    def aliases(self) -> dict[str, str]:
        """The diary's aliases, of all embedding models, with the collections that they point at."""
        with self.translated_errors():
            aliases = self.client.get_aliases().aliases
        return {
            alias.alias_name: alias.collection_name
            for alias in aliases
            if _DIARY_ALIAS.fullmatch(alias.alias_name)
            and alias.collection_name.startswith(f"{alias.alias_name}~")
        }

    def collections(self) -> list[str]:
        """Every collection of the server, the diary's or not."""
        with self.translated_errors():
            return [collection.name for collection in self.client.get_collections().collections]

    def point(self, alias: str, collection: str) -> None:
        """Point `alias` at `collection`, and delete the diary's other aliases; atomic."""
        old = [models.DeleteAlias(alias_name=other) for other in self.aliases()]
        new = models.CreateAlias(alias_name=alias, collection_name=collection)
        operations: list[models.AliasOperations] = [
            *(models.DeleteAliasOperation(delete_alias=alias) for alias in old),
            models.CreateAliasOperation(create_alias=new),
        ]
        with self.translated_errors():
            self.client.update_collection_aliases(operations)

    def create(self, collection: str, dimension: int) -> None:
        """Create a collection, or complete one whose creation was interrupted."""
        with self.translated_errors():
            if not self.client.collection_exists(collection):
                self.client.create_collection(
                    collection,
                    vectors_config={
                        DENSE: models.VectorParams(size=dimension, distance=models.Distance.COSINE)
                    },
                    sparse_vectors_config={SPARSE: models.SparseVectorParams(modifier=models.Modifier.IDF)},
                )
            owner = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
            self.client.create_payload_index(collection, "owner", owner)
            self.client.create_payload_index(collection, "entry_id", models.PayloadSchemaType.KEYWORD)
            for day in ("first_day", "last_day"):
                self.client.create_payload_index(collection, day, models.PayloadSchemaType.DATETIME)

    def delete(self, collection: str) -> None:
        """Delete a collection if it exists."""
        with self.translated_errors():
            self.client.delete_collection(collection)


def compatible(server: str, client: str) -> bool:
    """Whether two versions such as 1.20.3 are at most one minor version apart."""
    parts = [re.match(r"v?(\d+)\.(\d+)", version) for version in (server, client)]
    if not all(parts):
        return False
    (major, minor), (other_major, other_minor) = [(int(p[1]), int(p[2])) for p in parts if p]
    return major == other_major and abs(minor - other_minor) <= 1


def _reason(error: UnexpectedResponse) -> str:
    body = error.content.decode(errors="replace") if error.content else error.reason_phrase
    return f"{error.status_code} {' '.join(body.split())[:300]}"
