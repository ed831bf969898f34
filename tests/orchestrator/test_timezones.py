"""regressions/own_timezone: days over HTTP are those of the request, the owner or the deployment.

It is 18:30 in UTC, the evening of 27 November 2026, and the next morning in Auckland.

.venv/bin/python -m pytest tests/orchestrator/test_timezones.py
"""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from api import CHAT, ENTRIES, Api, error_of
from pydantic import ValidationError

from services.api_keys import add_key
from services.diary.reflection.reflections import QUEUED, Reflections
from services.local_time import Clock
from services.orchestrator.settings import OrchestratorSettings

AUCKLAND = "Pacific/Auckland"
UTC_DAY, LOCAL_DAY = "2026-11-27", "2026-11-28"
SEARCH = "/v1/diary/search"
WHERE = pytest.mark.parametrize(("timezone", "day"), [(None, UTC_DAY), (AUCKLAND, LOCAL_DAY)])


@pytest.fixture
def clock() -> Clock:
    return lambda: datetime(2026, 11, 27, 18, 30, tzinfo=UTC)


def named(timezone: str | None) -> dict[str, str]:
    return {"timezone": timezone} if timezone else {}


@WHERE
async def test_an_entry_without_a_date_gets_the_day_of_the_request(api: Api, timezone, day):
    entry_id = await api.write("Today.", **named(timezone))
    assert (await api.client.get(f"{ENTRIES}/{entry_id}")).json()["date"] == day


@WHERE
async def test_an_imported_entry_without_a_date_gets_the_day_of_the_request(api: Api, timezone, day):
    await api.client.post(
        "/v1/diary/import", params={"format": "jsonl", **named(timezone)}, content=b'{"text": "Undated."}\n'
    )
    (entry,) = (await api.client.get(ENTRIES)).json()["data"]
    assert (entry["date"], entry["date_assumed"]) == (day, True)


@WHERE
async def test_an_import_puts_moments_in_utc_on_the_local_day(api: Api, timezone, day):
    row = b'{"text": "A moment.", "date": "2026-11-27T18:30:00Z"}\n'
    await api.client.post("/v1/diary/import", params={"format": "jsonl", **named(timezone)}, content=row)
    assert (await api.client.get(ENTRIES)).json()["data"][0]["first_day"] == day


@WHERE
async def test_yesterday_in_a_search_is_the_day_before(api: Api, timezone, day):
    for number in (25, 26, 27, 28):
        await api.write(f"Number {number}.", date=f"2026-11-{number}")
    request = {"query": "What did you do yesterday?", "top_k": 1, **named(timezone)}
    (entry,) = (await api.client.post(SEARCH, json=request)).json()["data"]
    assert entry["date"] == f"2026-11-{int(day[-2:]) - 1}"


@WHERE
async def test_yesterday_in_a_chat_is_the_day_before(api: Api, timezone, day):
    for number in (25, 26, 27, 28):
        await api.write(f"Number {number}.", date=f"2026-11-{number}")
    request = {
        "model": "ada",
        "messages": [{"role": "user", "content": "What did you do yesterday?"}],
        "ada": {"top_k": 1, **named(timezone)},
    }
    answer = (await api.client.post(CHAT, json=request)).json()
    assert [item["date"] for item in answer["ada"]["diary"]["entries"]] == [f"2026-11-{int(day[-2:]) - 1}"]


@WHERE
async def test_a_reflection_gets_the_local_day(api: Api, timezone, day):
    talk = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello, Drew."}]
    answer = await api.client.post("/v1/diary/reflect", json={"messages": talk, **named(timezone)})
    assert answer.status_code == 202, answer.text
    (reflection,) = Reflections(api.ledger).with_state("local", QUEUED)
    assert reflection.date == day


@WHERE
async def test_filters_take_a_moment_for_its_local_day(api: Api, timezone, day):
    for date in (UTC_DAY, LOCAL_DAY):
        await api.write(f"Of {date}.", date=date, id=date)
    moment = "2026-11-27T18:30:00Z"
    assert await api.ids(**{"from": moment, "to": moment, **named(timezone)}) == [day]
    picked = {"from": moment, "to": moment, **named(timezone)}
    assert (await api.client.post("/v1/diary/delete", json=picked)).json()["ids"] == [day]


@pytest.mark.parametrize(
    "name", ["Auckland", "", "UTC+12", "../etc/passwd", "Pacific", 12, "pacific/auckland\x00"]
)
async def test_an_unknown_time_zone_is_named(api: Api, name: object):
    request = {"messages": [{"role": "user", "content": "Hello."}], "ada": {"timezone": name}}
    error = error_of(await api.client.post(CHAT, json=request), 400)
    assert error["param"] == "ada.timezone"
    for path, body in ((SEARCH, {"query": "x"}), (ENTRIES, {"text": "x"}), ("/v1/diary/delete", {})):
        error = error_of(await api.client.post(path, json={**body, "timezone": name}), 422)
        assert error["param"] == "timezone", path


class TestTheOwners:
    @pytest.fixture
    def keys(self, tmp_path: Path) -> dict[str, str]:
        """A key of each owner; the newest of drew's that names a time zone is his second."""
        made, file = {}, tmp_path / "keys.json"
        for owner, timezone in (
            ("drew", "Europe/Berlin"),
            ("drew", AUCKLAND),
            ("drew", None),
            ("mila", None),
        ):
            made[owner], _ = add_key(file, owner, None, None, 0o600, timezone)
        return made

    @pytest.fixture
    def settings(self, keys: dict[str, str], tmp_path: Path) -> dict[str, object]:
        return {"KEYS_FILE": tmp_path / "keys.json", "ADA_TIMEZONE": "America/Los_Angeles"}

    @pytest.mark.parametrize(
        ("owner", "more", "day"),
        [
            ("drew", {}, LOCAL_DAY),
            ("drew", {"timezone": "UTC"}, UTC_DAY),
            ("mila", {}, UTC_DAY),
            ("mila", {"timezone": AUCKLAND}, LOCAL_DAY),
        ],
    )
    async def test_the_zone_of_a_request_precedes_that_of_the_owner_and_the_deployment(
        self, api: Api, keys: dict[str, str], owner: str, more: dict, day: str
    ):
        head = {"Authorization": f"Bearer {keys[owner]}"}
        written = await api.client.post(ENTRIES, json={"text": "Today.", **more}, headers=head)
        entry = await api.client.get(f"{ENTRIES}/{written.json()['id']}", headers=head)
        assert entry.json()["date"] == day


class TestTheDeployments:
    @pytest.mark.parametrize(
        ("settings", "name"),
        [
            ({}, "UTC"),
            ({"TZ": AUCKLAND}, AUCKLAND),
            ({"TZ": f":{AUCKLAND}"}, AUCKLAND),
            ({"TZ": "NZST-12NZDT,M9.5.0,M4.1.0/3"}, "UTC"),
            ({"TZ": "/etc/localtime"}, "UTC"),
            ({"TZ": AUCKLAND, "ADA_TIMEZONE": "Europe/Berlin"}, "Europe/Berlin"),
        ],
    )
    def test_the_zone_is_the_setting_else_tz_else_utc(self, settings: dict[str, str], name: str):
        assert str(OrchestratorSettings(**{"TZ": "", **settings}).local_time.zone) == name

    def test_an_invalid_zone_in_the_setting_is_refused(self):
        with pytest.raises(ValidationError, match=r"'Auckland' is no time zone: write an IANA name"):
            OrchestratorSettings(ADA_TIMEZONE="Auckland")
