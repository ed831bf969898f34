"""A Qdrant server as the diary knows it: its collections, the aliases that stand for them, its refusals."""

import logging
import re
from collections.abc import Callable
from importlib.metadata import version as installed
from typing import ParamSpec, TypeVar

import httpx
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from services.diary.index.types import DENSE, SPARSE
from services.errors import DiaryUnavailable

log = logging.getLogger("ada.diary")
_OURS = re.compile(r".+-\d+-f\d+")  # the aliases that `collection_name` makes
Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")


class QdrantServer:
    """The connections to one server. Every method raises DiaryUnavailable."""

    def __init__(self, url: str, api_key: str, timeout_s: int) -> None:
        """Reach nothing yet: Qdrant may come later."""
        self._url = url
        # The keys travel inside the deployment's own network, without TLS, which the client warns of
        # when it is given the key by name.
        self.client = QdrantClient(
            url=url,
            headers={"api-key": api_key},
            timeout=timeout_s,
            check_compatibility=False,
            trust_env=False,  # a proxy does not reach the deployment's own network
        )

    def asked(self, call: Callable[Asked, Answer], *args: Asked.args, **kwargs: Asked.kwargs) -> Answer:
        """What the client's method `call` answers."""
        try:
            return call(*args, **kwargs)
        except UnexpectedResponse as error:
            raise DiaryUnavailable(f"Qdrant refused: {_reason(error)}") from error
        except (ApiException, ResponseHandlingException, httpx.HTTPError, OSError) as error:
            # Clients are told why there is no diary, and its servers' addresses are nobody's business.
            log.warning("Qdrant at %s can't be reached: %s", self._url, error)
            raise DiaryUnavailable("Qdrant can't be reached; the log says more") from error

    def check_version(self) -> None:
        """See that the server is one that this client is made for.

        Qdrant's client promises to work with servers of its own minor version and of the two beside it.
        """
        served = str(self.asked(self.client.info).version)
        client = installed("qdrant-client")
        if not compatible(served, client):
            raise DiaryUnavailable(
                f"Qdrant is version {served}, and this Ada speaks to {client} and its "
                f"neighbours: set QDRANT_IMAGE to v{client}"
            )

    def aliases(self) -> dict[str, str]:
        """The diary's aliases, those of other embedding models too, and the collections behind them."""
        found = {one.alias_name: one.collection_name for one in self.asked(self.client.get_aliases).aliases}
        return {
            alias: collection
            for alias, collection in found.items()
            if _OURS.fullmatch(alias) and collection.startswith(f"{alias}~")
        }

    def collections(self) -> list[str]:
        """Every collection of the server, the diary's or not."""
        return [one.name for one in self.asked(self.client.get_collections).collections]

    def point(self, alias: str, collection: str) -> None:
        """Let `alias` stand for `collection`, and no other alias of the diary's for anything; atomic."""
        forget = [models.DeleteAlias(alias_name=other) for other in self.aliases()]
        new = models.CreateAlias(alias_name=alias, collection_name=collection)
        self.asked(
            self.client.update_collection_aliases,
            [
                *(models.DeleteAliasOperation(delete_alias=old) for old in forget),
                models.CreateAliasOperation(create_alias=new),
            ],
        )

    def create(self, collection: str, dimension: int) -> None:
        """Make a collection, or what a creation that was cut short left out of it."""
        if not self.asked(self.client.collection_exists, collection):
            dense = models.VectorParams(size=dimension, distance=models.Distance.COSINE)
            words = models.SparseVectorParams(modifier=models.Modifier.IDF)
            self.asked(
                self.client.create_collection,
                collection,
                vectors_config={DENSE: dense},
                sparse_vectors_config={SPARSE: words},
            )
        owner = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
        self.asked(self.client.create_payload_index, collection, "owner", owner)
        self.asked(self.client.create_payload_index, collection, "entry_id", models.PayloadSchemaType.KEYWORD)
        for day in ("first_day", "last_day"):
            self.asked(self.client.create_payload_index, collection, day, models.PayloadSchemaType.DATETIME)

    def delete(self, collection: str) -> None:
        """Delete a collection, which need not be there."""
        self.asked(self.client.delete_collection, collection)


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
