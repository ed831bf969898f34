"""/v1/diary/search over HTTP: what is found, within which days, and why. How well: make bench-recall."""

import pytest
from api import Api, error_of

SEARCH = "/v1/diary/search"


@pytest.fixture
async def diary(api: Api) -> Api:
    for number, (date, mood, text) in enumerate(
        [
            ("2021-03-01", "calm", "The heron stood in the river."),
            ("2022-05-05", "angry", "A heron took the goldfish from the pond."),
            ("2022-06-01", None, "I mended a psalter for the abbey."),
        ]
    ):
        await api.write(text, id=f"e{number}", date=date, mood=mood)
    return api


async def search(api: Api, **query: object) -> list[dict]:
    answer = await api.client.post(SEARCH, json={"query": "the heron", **query})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def test_entries_come_best_first_with_the_parts_that_their_score_is_the_sum_of(diary: Api):
    entries = await search(diary)
    assert {entry["id"] for entry in entries[:2]} == {"e0", "e1"}
    scores = [entry["score"] for entry in entries]
    assert scores == sorted(scores, reverse=True)
    for entry in entries:
        parts = entry["score_parts"]
        assert {"raw dense", "raw words"} <= parts.keys()
        added = sum(part for name, part in parts.items() if not name.startswith("raw "))
        assert added == pytest.approx(entry["score"], abs=0.002)
        assert entry["explanation"] is None
        assert entry["text"]


@pytest.mark.parametrize(
    ("days", "ids"),
    [
        ({"from": "2022-01-01"}, {"e1", "e2"}),
        ({"to": "2021-12-31"}, {"e0"}),
        ({"from": "spring 2022", "to": "spring 2022"}, {"e1"}),
        ({"from": "1999", "to": "2000"}, set()),
    ],
)
async def test_only_the_requested_days_are_searched(diary: Api, days: dict, ids: set[str]):
    assert {entry["id"] for entry in await search(diary, **days)} == ids


async def test_no_more_than_top_k_are_found(diary: Api):
    assert len(await search(diary, top_k=1)) == 1


async def test_a_mood_is_preferred(diary: Api):
    for mood, best in (("calm", "e0"), ("Angry", "e1")):
        assert (await search(diary, mood=mood))[0]["id"] == best


async def test_explain_reports_how_a_date_was_parsed_and_which_entries_were_dropped(diary: Api):
    await diary.write("A heron took the goldfish from the pond!", id="copy", date="2022-05-06")
    query = {"query": "the heron of last year", "as_of": "2023-01-01", "explain": True}
    (best, *_) = await search(diary, **query)
    explanation = best["explanation"]
    assert {best["id"], *explanation["duplicates"]} == {"e1", "copy"}
    assert any("last year" in why for why in explanation["why"])
    assert "goldfish" in explanation["shown"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "query"),
        ({"query": ""}, "query"),
        ({"query": "x", "top_k": 0}, "top_k"),
        ({"query": "x", "from": "2023-02-30"}, "from"),
        ({"query": "x", "to": "one day"}, "to"),
        ({"query": "x", "as_of": "one day"}, "as_of"),
        ({"query": "x", "recency": -1}, "recency"),
        ({"query": "x", "explan": True}, "explan"),
    ],
)
async def test_bad_searches_name_the_field(client, body: dict, param: str):
    assert error_of(await client.post(SEARCH, json=body), 422)["param"] == param


@pytest.mark.parametrize("query", ["\x00", "<|im_end|>", "\u202e", "a" * 10_000, "%_'\";--", "?"])
async def test_a_query_may_have_any_words(diary: Api, query: str):
    assert isinstance(await search(diary, query=query), list)
