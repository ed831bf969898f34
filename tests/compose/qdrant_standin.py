"""NOT QDRANT: a stand-in for tests, where Qdrant's own image can't be had.

Speaks as much of Qdrant's REST as Ada uses, through the local engine of `qdrant-client`. It shows wiring,
keys, volumes and outages; it shows nothing of Qdrant's own index, speed, write-ahead log or versions.

    python qdrant_standin.py FOLDER CONFIG.yaml PORT
"""

import os
import sys
import threading
from pathlib import Path
from typing import Any

import uvicorn
import yaml
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from qdrant_client import QdrantClient, models

OPEN = ("/", "/healthz", "/livez", "/readyz")
READS = ("/points/query", "/points/count", "/points/scroll", "/exists")


def create_app(folder: Path, keys: dict[str, str], version: str = "1.20.0") -> FastAPI:
    """`keys` holds Qdrant's own settings `api_key` and `read_only_api_key`."""
    app = FastAPI(title="qdrant-standin")
    engine = QdrantClient(path=str(folder), force_disable_check_same_thread=True)
    app.state.engine = engine
    lock = threading.Lock()  # the local engine is made for one thread

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

    @app.exception_handler(ValueError)
    async def wrong_input(_: Request, error: ValueError):
        missing = "not found" in str(error)
        return _refusal(404 if missing else 400, f"{'Not found' if missing else 'Wrong input'}: {error}")

    def result(value: Any) -> dict:
        return {"result": value, "status": "ok", "time": 0.0}

    @app.get("/")
    def about() -> dict:
        return {"title": "qdrant-standin (a test double, not Qdrant)", "version": version, "commit": None}

    @app.get("/readyz")
    @app.get("/healthz")
    @app.get("/livez")
    def ready() -> str:
        return "all shards are ready"

    @app.get("/collections/{name}/exists")
    def exists(name: str) -> dict:
        with lock:
            return result({"exists": engine.collection_exists(name)})

    @app.put("/collections/{name}")
    def create(name: str, body: models.CreateCollection) -> dict:
        with lock:
            return result(engine.create_collection(name, vectors_config=body.vectors))

    @app.delete("/collections/{name}")
    def remove(name: str) -> dict:
        with lock:
            return result(engine.delete_collection(name))

    @app.put("/collections/{name}/index")
    def create_index(name: str) -> dict:
        return result({"operation_id": 0, "status": "completed"})  # the local engine has none

    @app.put("/collections/{name}/points")
    def upsert(name: str, body: models.PointsList) -> dict:
        with lock:
            for point in body.points:
                _check_dimension(engine, name, point.vector["dense"])
            engine.upsert(name, body.points)
        return result({"operation_id": 0, "status": "completed"})

    @app.post("/collections/{name}/points/query")
    def query(name: str, body: models.QueryRequest) -> dict:
        vector = body.query.nearest if isinstance(body.query, models.NearestQuery) else body.query
        with lock:
            _check_dimension(engine, name, vector)
            found = engine.query_points(
                name, vector, using=body.using, query_filter=body.filter, limit=body.limit or 10
            )
        return result({"points": [point.model_dump() for point in found.points]})

    @app.post("/collections/{name}/points/delete")
    def delete(name: str, body: models.FilterSelector) -> dict:
        with lock:
            engine.delete(name, body)
        return result({"operation_id": 0, "status": "completed"})

    @app.post("/collections/{name}/points/count")
    def count(name: str) -> dict:
        with lock:
            return result({"count": engine.count(name).count})

    return app


def _check_dimension(engine: QdrantClient, name: str, vector: list[float]) -> None:
    size = engine.get_collection(name).config.params.vectors["dense"].size
    if len(vector) != size:
        raise ValueError(f"Vector dimension error: expected dim: {size}, got {len(vector)}")


def _refusal(status: int, reason: str) -> JSONResponse:
    return JSONResponse({"status": {"error": reason}, "time": 0.0}, status)


if __name__ == "__main__":
    print(__doc__.splitlines()[0], flush=True)
    folder, config, port = sys.argv[1:]
    keys = yaml.safe_load(Path(config).read_text(encoding="utf-8"))["service"]
    app = create_app(Path(folder), keys, os.environ.get("STANDIN_VERSION", "1.20.0"))
    uvicorn.run(app, host="0.0.0.0", port=int(port), log_level="warning")
