"""Without keys, pages of other sites in this machine's browser get nothing and change nothing."""

from pathlib import Path

import httpx
import pytest
from api import ENTRIES, error_of
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from services.api_keys import add_key
from services.errors import Unauthorized
from services.orchestrator.http.auth import check_loopback_origin

HERE = ["localhost", "localhost:8080", "LOCALHOST", "127.0.0.1:8080", "[::1]:8080"]
ELSEWHERE = [
    "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "10.0.0.1",
    "127.8.0.1", "0.0.0.0:8080", "[::2]", "[", "localhost.", "",
]  # fmt: skip
IMPORT = "/v1/diary/import"


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    return {"KEYS_FILE": tmp_path / "keys.json"}


@pytest.mark.parametrize("name", HERE)
def test_names_of_this_machine_are_admitted(name: str):
    check_loopback_origin(Headers({"host": name, "origin": f"http://{name}"}))


def test_a_request_without_host_and_origin_is_admitted():
    check_loopback_origin(Headers({}))


@pytest.mark.parametrize("name", [name for name in ELSEWHERE if name])
def test_other_hosts_are_refused_by_name(name: str):
    with pytest.raises(Unauthorized, match="make key OWNER") as refused:
        check_loopback_origin(Headers({"host": name}))
    assert repr(name) in str(refused.value)


@pytest.mark.parametrize("origin", ["null", *(f"https://{name}" for name in ELSEWHERE)])
def test_pages_of_other_sites_are_refused(origin: str):
    with pytest.raises(Unauthorized, match="page"):
        check_loopback_origin(Headers({"host": "localhost", "origin": origin}))


@pytest.mark.parametrize(
    "sent",
    [
        {},  # no browser
        {"sec-fetch-site": "none"},  # typed by hand
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "same-site"},  # a program of this machine, on another port
        {"sec-fetch-site": "cross-site", "origin": "http://localhost:3000"},  # asked for 127.0.0.1
    ],
)
def test_pages_of_this_machine_are_admitted(sent: dict[str, str]):
    check_loopback_origin(Headers({"host": "127.0.0.1:8080", **sent}))


async def test_a_page_of_another_site_can_load_nothing_even_without_an_origin(client: httpx.AsyncClient):
    """An image, a script, a frame, a link: all of them are GETs without an `Origin`."""
    page = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    for path in (ENTRIES, "/v1/models", "/v1/diary/export", "/v1/jobs"):
        assert "page of another site" in error_of(await client.get(path, headers=page), 401)["message"]
    assert (await client.get(ENTRIES, headers={"Sec-Fetch-Site": "same-origin"})).status_code == 200


labels = st.from_regex(r"[a-z]([a-z0-9-]*[a-z0-9])?", fullmatch=True)


@given(label=labels, name=st.sampled_from(["localhost", "127.0.0.1"]), glue=st.sampled_from([".", ""]))
def test_a_longer_name_is_not_mistaken_for_this_machine(label: str, name: str, glue: str):
    for host in (f"{label}{glue}{name}", f"{name}{glue}{label}", f"{label}.{name}.{label}:8080"):
        for headers in ({"host": host}, {"origin": f"http://{host}"}):
            with pytest.raises(Unauthorized):
                check_loopback_origin(Headers(headers))


@given(st.text(st.characters(max_codepoint=255), min_size=1))
def test_any_header_is_admitted_or_refused_without_a_crash(text: str):
    try:
        check_loopback_origin(Headers({"host": text, "origin": text}))
    except Unauthorized:
        return
    assert "localhost" in text.lower() or "127." in text or ":" in text


async def test_a_page_can_neither_read_nor_write_what_a_client_can(client: httpx.AsyncClient):
    page = {"Origin": "https://evil.example"}
    file = {"file": ("diary.jsonl", b'{"date": "2020-01-01", "text": "planted"}\n')}
    error_of(await client.post(IMPORT, files=file, headers=page), 401)
    error_of(await client.post("/v1/diary/reindex", headers=page), 401)
    error_of(await client.get(ENTRIES, headers={"Host": "evil.example"}), 401)
    assert (await client.get(ENTRIES)).json()["data"] == []
    assert (await client.get("/healthz", headers=page)).status_code == 200


async def test_a_key_allows_requests_from_any_page(client: httpx.AsyncClient, tmp_path: Path):
    key, _ = add_key(tmp_path / "keys.json", "drew", None, None, 0o600)
    headers = {"Authorization": f"Bearer {key}", "Origin": "https://chat.example", "Host": "ada.example"}
    assert (await client.get(ENTRIES, headers=headers)).status_code == 200
