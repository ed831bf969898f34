"""AdaChat with the files that a configuration names: an adapter that must be the one served, and a diary.

Over the real API on a port of its own; the model is a stand-in. More of AdaChat: tests/client.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from api import MANIFEST, WordsEmbedder

from services.client import AdaChat, InferenceConfig
from services.client.ada_chat import AdaClientError
from services.diary.index.engine import IndexEngine
from services.diary.ledger.ledger import Ledger
from services.worker.indexer import Indexer

DIARY = [
    {"date": "2023-05-08", "content": "A stray dog followed me home along the prom."},
    {"date": "2023-06-01", "content": "I called him Postscript."},
]


@pytest.fixture
async def base_url(server, ledger: Ledger, index: IndexEngine, port: int) -> AsyncIterator[str]:
    """Ada, with somebody who does the worker's jobs."""
    indexer = Indexer(ledger, WordsEmbedder(), index)

    async def work() -> None:
        while True:
            if due := await asyncio.to_thread(ledger.due, 64):
                await asyncio.to_thread(indexer.write, due)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(work())
    yield f"http://127.0.0.1:{port}"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    file = tmp_path / "ada_diary.json"
    file.write_text(json.dumps(DIARY))
    return file


def run_folder(folder: Path, run_id: str) -> Path:
    folder.mkdir()
    (folder / "MANIFEST.json").write_text(json.dumps({"run_id": run_id}))
    return folder


async def open_chat(**fields: object) -> AdaChat:
    return await asyncio.to_thread(AdaChat, InferenceConfig(**fields))


async def test_the_original_configuration_is_accepted_unchanged(base_url: str, diary: Path, tmp_path: Path):
    folder = run_folder(tmp_path / "ada_model", MANIFEST.run_id)
    with await open_chat(base_url=base_url, model_path=str(folder), diary_path=str(diary)) as ada:
        assert ada.imported is not None
        assert (ada.imported["accepted"], ada.imported["rejected_count"]) == (2, 0)
        answer = await asyncio.to_thread(ada.generate_response, "Whose dog was Postscript?")
        assert answer == "It was Postscript."
        assert ada.about["diary"]["status"] == "used", "it is searchable before the first question"


async def test_a_diary_is_imported_once(base_url: str, diary: Path, ledger: Ledger):
    for _ in range(2):
        (await open_chat(base_url=base_url, diary_path=diary)).close()
    entries = list(ledger.iter_current())
    assert sorted(entry.text for entry in entries) == sorted(row["content"] for row in DIARY)
    ledger.for_owner("local").remove(entries[0].id)
    (await open_chat(base_url=base_url, diary_path=diary)).close()
    assert [entry.id for entry in ledger.iter_current() if not entry.removed] == [entries[1].id]


async def test_only_new_entries_of_a_diary_that_has_grown_are_imported(
    base_url: str, diary: Path, ledger: Ledger
):
    (await open_chat(base_url=base_url, diary_path=diary)).close()
    diary.write_text(json.dumps([*DIARY, {"date": "2023-07-01", "content": "He slept all day."}]))
    with await open_chat(base_url=base_url, diary_path=diary) as ada:
        assert ada.imported is not None
        assert (ada.imported["accepted"], ada.imported["duplicates"]) == (1, 2)
    assert len(list(ledger.iter_current())) == 3


async def test_an_adapter_that_is_not_served_is_refused_with_the_remedy(base_url: str, tmp_path: Path):
    folder = run_folder(tmp_path / "other", "run-2")
    with pytest.raises(AdaClientError, match=r"run-2, and Ada serves run-1.*make publish RUN=run-2"):
        await open_chat(base_url=base_url, model_path=folder)


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
async def test_a_folder_without_a_finished_run_is_named(base_url: str, tmp_path: Path, content: str | None):
    if content is not None:
        (tmp_path / "MANIFEST.json").write_text(content)
    with pytest.raises(AdaClientError, match=r"model_path: .*MANIFEST.json can't be read"):
        await open_chat(base_url=base_url, model_path=tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("missing.json", None, "can't be read .No such file"),
        ("diary.pdf", b"%PDF", "ends in none of .json"),
        ("broken.json", b'[{"date": "2023-05-08"}]', "1 rows are no entries; line 1: .*text"),
    ],
)
async def test_an_invalid_diary_is_named(
    base_url: str, tmp_path: Path, name: str, content: bytes | None, why: str
):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(AdaClientError, match=rf"diary_path: .*{name}.*{why}"):
        await open_chat(base_url=base_url, diary_path=tmp_path / name)


async def test_invalid_rows_are_reported_and_the_others_imported(base_url: str, diary: Path):
    diary.write_text(json.dumps([*DIARY, {"date": "2023-02-30", "content": "Never."}]))
    with pytest.warns(UserWarning, match=r"ada_diary.json: 1 rows are no entries; line 1: date"):
        ada = await open_chat(base_url=base_url, diary_path=diary)
    ada.close()


async def test_without_an_api_neither_file_is_checked(diary: Path):
    with pytest.raises(AdaClientError, match=r"no Ada at http://127\.0\.0\.1:9"):
        await open_chat(base_url="http://127.0.0.1:9", diary_path=diary)
