"""NOT QDRANT: a stand-in for tests, where Qdrant's own image can't be had.

Speaks as much of Qdrant's REST as Ada uses, over Qdrant's own engine (qdrant-edge), one folder a collection.
It shows wiring, keys, volumes, aliases and outages; it shows nothing of the server's optimizer, speed or
versions.

    python qdrant_standin.py FOLDER CONFIG.yaml PORT
"""

import json
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import qdrant_edge as edge
import uvicorn
import yaml
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from qdrant_client import models

OPEN = ("/", "/healthz", "/livez", "/readyz")
READS = ("/points/query/batch", "/points/count", "/points/scroll")


class Collections:
    """Collections and the aliases that stand for them, in a folder. One caller at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "collections"
        self._aliases = folder / "aliases.json"
        self._folder.mkdir(parents=True, exist_ok=True)
        self.aliases = json.loads(self._aliases.read_text()) if self._aliases.exists() else {}
        self.shards = {path.name: edge.EdgeShard.load(str(path)) for path in self._folder.iterdir()}
        self.lock = threading.Lock()

    def __getitem__(self, name: str) -> edge.EdgeShard:
        """By its own name or by an alias."""
        real = self.aliases.get(name, name)
        if real not in self.shards:
            raise Refused(404, f"Not found: Collection `{name}` doesn't exist!")
        return self.shards[real]

    def create(self, name: str, body: models.CreateCollection) -> None:
        if name in self.shards:
            raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
        config = edge.EdgeConfig(
            vectors={
                key: edge.EdgeVectorParams(
                    size=parameters.size, distance=getattr(edge.Distance, parameters.distance)
                )
                for key, parameters in body.vectors.items()
            },
            sparse_vectors={
                key: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf if parameters.modifier else None)
                for key, parameters in (body.sparse_vectors or {}).items()
            },
        )
        (self._folder / name).mkdir()
        self.shards[name] = edge.EdgeShard.create(str(self._folder / name), config)

    def delete(self, name: str) -> bool:
        """With its aliases, as a server does."""
        shard = self.shards.pop(name, None)
        if shard is not None:
            shard.close()
            shutil.rmtree(self._folder / name)
            self._save({alias: real for alias, real in self.aliases.items() if real != name})
        return shard is not None

    def change_aliases(self, actions: list[models.AliasOperations]) -> None:
        """All of them or none."""
        aliases = dict(self.aliases)
        for action in actions:
            if isinstance(action, models.DeleteAliasOperation):
                aliases.pop(action.delete_alias.alias_name, None)
            else:
                new = action.create_alias
                if new.collection_name not in self.shards:
                    raise Refused(404, f"Not found: Collection `{new.collection_name}` doesn't exist!")
                aliases[new.alias_name] = new.collection_name
        self._save(aliases)

    def _save(self, aliases: dict[str, str]) -> None:
        self._aliases.with_suffix(".new").write_text(json.dumps(aliases))
        self._aliases.with_suffix(".new").replace(self._aliases)
        self.aliases = aliases

    def close(self) -> None:
        for shard in self.shards.values():
            shard.close()


class Refused(Exception):
    """Status and reason of an answer."""


def create_app(folder: Path, keys: dict[str, str], version: str = "1.20.0") -> FastAPI:
    """`keys` holds Qdrant's own settings `api_key` and `read_only_api_key`."""
    app = FastAPI(title="qdrant-standin")
    app.state.engine = collections = Collections(folder)
    done = {"operation_id": 0, "status": "completed"}

    @app.middleware("http")
    async def check_key(request: Request, call_next):
        path, key = request.url.path, request.headers.get("api-key")
        if path in OPEN:
            return await call_next(request)
        if not key or key not in keys.values():
            return _refusal(401, "Must provide an API key or an Authorization bearer token")
        reads = request.method == "GET" or path.endswith(READS)
        if key == keys["read_only_api_key"] and not reads:
            return _refusal(403, "Forbidden: this key may only read")
        return await call_next(request)

    @app.exception_handler(Refused)
    async def on_refusal(_: Request, error: Refused):
        return _refusal(*error.args)

    @app.exception_handler(Exception)
    async def wrong_input(_: Request, error: Exception):
        return _refusal(400, f"Wrong input: {error}")  # the engine raises bare Exception for everything

    @app.get("/")
    def about() -> dict:
        return {"title": "qdrant-standin (a test double, not Qdrant)", "version": version, "commit": None}

    @app.get("/readyz")
    @app.get("/healthz")
    @app.get("/livez")
    def ready() -> str:
        return "all shards are ready"

    @app.get("/collections")
    def names() -> dict:
        return result({"collections": [{"name": name} for name in collections.shards]})

    @app.get("/aliases")
    def aliases() -> dict:
        pairs = collections.aliases.items()
        return result({"aliases": [{"alias_name": a, "collection_name": real} for a, real in pairs]})

    @app.post("/collections/aliases")
    def change_aliases(body: models.ChangeAliasesOperation) -> dict:
        with collections.lock:
            collections.change_aliases(body.actions)
        return result(True)

    @app.get("/collections/{name}/exists")
    def exists(name: str) -> dict:
        return result({"exists": name in collections.shards})

    @app.put("/collections/{name}")
    def create(name: str, body: models.CreateCollection) -> dict:
        with collections.lock:
            collections.create(name, body)
        return result(True)

    @app.delete("/collections/{name}")
    def remove(name: str) -> dict:
        with collections.lock:
            return result(collections.delete(name))

    @app.put("/collections/{name}/index")
    def create_index(name: str, body: models.CreateFieldIndex) -> dict:
        kind = getattr(body.field_schema, "type", body.field_schema)
        schema = getattr(edge.PayloadSchemaType, kind.value.capitalize())
        update(name, edge.UpdateOperation.create_field_index(body.field_name, schema))
        return result(done)

    @app.put("/collections/{name}/points")
    def upsert(name: str, body: models.PointsList) -> dict:
        points = [
            edge.Point(point.id, {key: vector(value) for key, value in point.vector.items()}, point.payload)
            for point in body.points
        ]
        update(name, edge.UpdateOperation.upsert_points(points))
        return result(done)

    @app.post("/collections/{name}/points/delete")
    def delete(name: str, body: models.FilterSelector) -> dict:
        update(name, edge.UpdateOperation.delete_points_by_filter(filter_(body.filter)))
        return result(done)

    def update(name: str, operation: edge.UpdateOperation) -> None:
        with collections.lock:
            collections[name].update(operation)

    @app.post("/collections/{name}/points/query/batch")
    def query(name: str, body: models.QueryRequestBatch) -> dict:
        requests = [query_request(search) for search in body.searches]
        with collections.lock:
            results = collections[name].query_batch(edge.QueryBatchRequest(requests))
        return result([{"points": [scored(point) for point in points]} for points in results])

    @app.post("/collections/{name}/points/scroll")
    def scroll(name: str, body: models.ScrollRequest) -> dict:
        request = edge.ScrollRequest(body.offset, body.limit, filter_(body.filter), body.with_payload)
        with collections.lock:
            points, following = collections[name].scroll(request)
        records = [{"id": str(point.id), "payload": point.payload} for point in points]
        return result({"points": records, "next_page_offset": following and str(following)})

    @app.post("/collections/{name}/points/count")
    def count(name: str) -> dict:
        with collections.lock:
            return result({"count": collections[name].count(edge.CountRequest())})

    return app


def result(value: Any) -> dict:
    return {"result": value, "status": "ok", "time": 0.0}


def _refusal(status: int, reason: str) -> JSONResponse:
    return JSONResponse({"status": {"error": reason}, "time": 0.0}, status)


# --- from REST to the engine -----------------------------------------------------------------------


def query_request(query: models.QueryRequest) -> edge.QueryRequest:
    idf = query.params and query.params.idf
    return edge.QueryRequest(
        limit=query.limit,
        query=edge.Query.Nearest(vector(query.query.nearest), using=query.using),
        filter=filter_(query.filter),
        params=edge.SearchParams(idf=edge.IdfParams(corpus=filter_(idf.corpus))) if idf else None,
        with_payload=query.with_payload,
    )


def vector(value: list[float] | models.SparseVector) -> list[float] | edge.SparseVector:
    if isinstance(value, models.SparseVector):
        return edge.SparseVector(value.indices, value.values)
    return value


def filter_(value: models.Filter | None) -> edge.Filter | None:
    if value is None:
        return None
    clauses = {name: getattr(value, name) for name in ("must", "should", "must_not")}
    return edge.Filter(
        **{name: [condition(item) for item in items] for name, items in clauses.items() if items}
    )


def condition(value: models.Condition) -> Any:
    if isinstance(value, models.Filter):
        return filter_(value)
    if isinstance(value, models.HasIdCondition):
        return edge.HasIdCondition(set(value.has_id))
    if value.match is not None:
        return edge.FieldCondition(key=value.key, match=edge.MatchValue(value.match.value))
    days = {side: day.isoformat() for side, day in value.range if day is not None}
    return edge.FieldCondition(key=value.key, range=edge.RangeDateTime(**days))


def scored(point: edge.ScoredPoint) -> dict[str, Any]:
    return {"id": str(point.id), "version": point.version, "score": point.score, "payload": point.payload}


if __name__ == "__main__":
    print(__doc__.splitlines()[0], flush=True)
    folder, config, port = sys.argv[1:]
    keys = yaml.safe_load(Path(config).read_text(encoding="utf-8"))["service"]
    app = create_app(Path(folder), keys, os.environ.get("STANDIN_VERSION", "1.20.0"))
    uvicorn.run(app, host="0.0.0.0", port=int(port), log_level="warning")
