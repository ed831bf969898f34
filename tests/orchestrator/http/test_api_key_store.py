"""Who a header names: nobody without a key, whatever is sent, and the file may change at any time.

.venv/bin/python -m pytest tests/orchestrator/http/test_api_key_store.py
"""

import asyncio
import logging
import os
import string
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.api_keys import add_key, digest, revoke_keys
from services.errors import Unauthorized
from services.orchestrator.http.auth import LOCAL, ApiKeyStore, Caller, Fingerprint, file_fingerprint


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def ring(file: Path) -> ApiKeyStore:
    return ApiKeyStore(file, open_without_keys=True)


def make(file: Path, owner: str = "drew", requests: int | None = None, tokens: int | None = None) -> str:
    return add_key(file, owner, requests, tokens, 0o600)[0]


def caller(ring: ApiKeyStore, authorization: str | None) -> Caller:
    """Whom the header names by the file as it is now."""
    ring.reload()
    return ring.caller(authorization)


def owner_of(ring: ApiKeyStore, key: str | None) -> str | None:
    """Whose key this is; nobody's is None."""
    try:
        return caller(ring, None if key is None else f"Bearer {key}").owner
    except Unauthorized:
        return None


def test_a_key_names_its_owner_and_its_limits(file: Path, ring: ApiKeyStore):
    key = make(file, "drew", 60, 0)
    assert caller(ring, f"Bearer {key}") == Caller("drew", caller(ring, f"Bearer {key}").key_id, 60, 0)
    assert owner_of(ring, make(file, "mila")) == "mila"
    assert owner_of(ring, key) == "drew"


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER {}", "Bearer  {} "])
def test_the_scheme_is_parsed_as_http_specifies(file: Path, ring: ApiKeyStore, form: str):
    assert caller(ring, form.format(make(file))).owner == "drew"


@pytest.mark.parametrize(
    "form", [None, "", "{}", "Bearer", "Bearer ", "Basic {}", "Bearer{}", "Bearer\t{}", "Key {}"]
)
def test_an_invalid_header_is_refused_with_the_right_form(file: Path, ring: ApiKeyStore, form: str | None):
    key = make(file)
    with pytest.raises(Unauthorized, match="no API key was sent: send `Authorization: Bearer <key>`"):
        caller(ring, form and form.format(key))


def test_a_key_must_match_the_whole_hash_and_not_its_beginning(file: Path, ring: ApiKeyStore):
    key = make(file)
    file.write_text(file.read_text().replace(digest(key), digest(key)[:12] + "0" * 52))
    assert owner_of(ring, key) is None


def test_a_refusal_repeats_nothing_of_the_key(file: Path, ring: ApiKeyStore):
    make(file)
    with pytest.raises(Unauthorized) as refused:
        caller(ring, "Bearer ada-secret-of-somebody")
    assert "secret" not in str(refused.value)


ALPHABET = string.ascii_letters + string.digits + "-_"
NEAR = st.tuples(
    st.integers(0, 46), st.sampled_from(["cut", "drop", "case", "other", "insert"]), st.text(max_size=3)
)


def near_miss(key: str, position: int, how: str, text: str) -> str:
    """The key with one thing wrong."""
    before, here, after = key[:position], key[position], key[position + 1 :]
    other = ALPHABET[(ALPHABET.index(here) + 1) % len(ALPHABET)]
    wrong = {"cut": "", "drop": after, "case": here.swapcase() + after, "other": other + after}
    return before + wrong.get(how, (text or "x") + here + after)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(header=st.none() | st.text() | st.text().map(lambda key: f"Bearer {key}"), near=NEAR)
@example(header="Bearer ", near=(4, "case", ""))
@example(header="Bearer \udcff\x00", near=(46, "cut", ""))
def test_only_a_valid_key_identifies_an_owner(file: Path, header: str | None, near: tuple[int, str, str]):
    if not file.exists():
        (file.parent / "key").write_text(make(file))
    key, ring = (file.parent / "key").read_text(), ApiKeyStore(file, open_without_keys=True)
    missed = near_miss(key, *near)
    for sent in (header, missed, f"Bearer {missed}", f"Basic {key}", f"Bearer {key} {key}"):
        if sent is not None and sent.partition(" ")[2].strip() == key and sent.startswith("Bearer"):
            continue  # a letter without another case, or a space before the key
        with pytest.raises(Unauthorized):
            caller(ring, sent)
    assert caller(ring, f"Bearer {key}").owner == "drew"


class TestWithoutKeys:
    @pytest.mark.parametrize("header", [None, "", "Bearer none", "Bearer x", "Basic x", "nonsense"])
    def test_every_header_means_the_one_owner(self, ring: ApiKeyStore, header: str | None):
        assert caller(ring, header).owner == LOCAL

    def test_beyond_loopback_every_request_is_refused(self, file: Path):
        ring = ApiKeyStore(file, open_without_keys=False)
        assert owner_of(ring, "none") is None
        assert owner_of(ring, make(file)) == "drew"

    def test_the_first_key_takes_effect_at_once(self, file: Path, ring: ApiKeyStore):
        assert owner_of(ring, "none") == LOCAL
        key = make(file)
        assert owner_of(ring, "none") is None
        assert owner_of(ring, key) == "drew"

    def test_a_broken_first_file_refuses_every_request_too(self, file: Path, ring: ApiKeyStore):
        assert owner_of(ring, "none") == LOCAL
        file.write_text("{")
        assert owner_of(ring, "none") is None


class TestChanges:
    def test_a_new_or_revoked_key_takes_effect_without_a_restart(self, file: Path, ring: ApiKeyStore):
        drews, milas = make(file), make(file, "mila")
        assert owner_of(ring, milas) == "mila"
        revoke_keys(file, "mila", 0o600)
        assert owner_of(ring, milas) is None
        assert owner_of(ring, drews) == "drew"

    def test_when_all_keys_are_revoked_every_request_is_refused(self, file: Path, ring: ApiKeyStore):
        key = make(file)
        revoke_keys(file, "drew", 0o600)
        assert owner_of(ring, key) is None
        assert owner_of(ring, None) is None

    async def test_the_file_is_checked_at_most_once_a_second(self, file: Path):
        make(file)
        paths: list[Path] = []

        def fingerprint(path: Path) -> Fingerprint:
            paths.append(path)
            return file_fingerprint(path)

        ring = ApiKeyStore(file, open_without_keys=True, fingerprint=fingerprint)
        paths.clear()  # of the store's own start
        for _ in range(100):
            await ring.refresh()
        assert len(paths) == 1

    async def test_a_new_key_is_accepted_by_the_request_that_checks_the_file(
        self, file: Path, ring: ApiKeyStore
    ):
        key = make(file)
        await asyncio.gather(*(ring.refresh() for _ in range(20)))
        assert ring.caller(f"Bearer {key}").owner == "drew"

    async def test_a_hanging_disk_does_not_block_the_event_loop(self, file: Path):
        key, free = make(file), threading.Event()
        is_hanging = False

        def fingerprint(path: Path) -> Fingerprint:
            if is_hanging:
                free.wait(10)
            return file_fingerprint(path)

        ring = ApiKeyStore(file, open_without_keys=True, poll_s=0.0, timeout_s=0.01, fingerprint=fingerprint)
        is_hanging = True
        async with asyncio.timeout(5):
            await asyncio.gather(*(ring.refresh() for _ in range(20)))
            await ring.refresh()
        assert ring.caller(f"Bearer {key}").owner == "drew"
        free.set()

    @pytest.mark.parametrize("how", ["broken", "gone", "a folder", "a pipe"])
    def test_a_lost_file_revokes_no_key_and_admits_nobody_else(
        self, file: Path, ring: ApiKeyStore, caplog, how: str
    ):
        key = make(file)
        assert owner_of(ring, key) == "drew"
        content = file.read_bytes()
        file.unlink()
        if how == "broken":
            file.write_text('{"keys": [')
        if how == "a folder":
            file.mkdir()
        if how == "a pipe":
            os.mkfifo(file)
        with caplog.at_level(logging.ERROR):
            for _ in range(5):
                assert owner_of(ring, key) == "drew"
                assert owner_of(ring, "none") is None
        (message,) = caplog.messages
        assert str(file) in message
        assert "read before stay valid" in message
        if how == "a folder":
            file.rmdir()
        if how == "a pipe":
            file.unlink()
        file.write_bytes(content)
        revoke_keys(file, "drew", 0o600)
        assert owner_of(ring, key) is None

    def test_an_edit_in_place_is_noticed_even_with_the_same_size_and_time(
        self, file: Path, ring: ApiKeyStore
    ):
        """As permissions that are mended: only the time of change tells of them."""
        key = make(file)
        assert owner_of(ring, key) == "drew"
        before = file.stat()
        file.write_text(file.read_text().replace("drew", "mila"))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert owner_of(ring, key) == "mila"
