"""The store: what was finished is never lost, and what the user had stays as it was.

.venv/bin/python -m pytest tests/trainer/synthetic/test_output_store.py
"""

import json
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.errors import ConfigError
from trainer.data.sample import alternating_turns
from trainer.synthetic.output_store import Item, OutputStore

SEED, PERSONA = 3407, "abc"
OWN = [{"conversations": [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "Bríd."}]}]


def item(number: int) -> Item:
    turns = list(alternating_turns("And then?", f"Bríd’s {number}."))
    return {"conversations": turns, "seed": SEED, "plan": {"number": number}}


def write(out: Path, *numbers: int, given_up: tuple[int, ...] = ()) -> Path:
    """A run that was ended before it was done."""
    with OutputStore(out, SEED, PERSONA) as store:
        for number in numbers:
            store.save(number, item(number))
        for number in given_up:
            store.give_up(number)
        return store.path


def read(out: Path) -> list[Item]:
    return json.loads(out.read_text(encoding="utf-8"))


def publish(out: Path) -> None:
    with OutputStore(out, SEED, PERSONA) as store:
        store.publish()


def refusal(out: Path, seed: int = SEED, persona: str = PERSONA) -> str:
    with pytest.raises(ConfigError) as error:
        OutputStore(out, seed, persona)
    return str(error.value)


def test_what_was_finished_is_there_again(tmp_path: Path):
    write(tmp_path / "out.json", 2, 0, given_up=(1,))
    with OutputStore(tmp_path / "out.json", SEED, PERSONA) as store:
        assert store.completed == {0: item(0), 2: item(2)}
        assert store.finished == {0, 1, 2}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(end=st.integers(0, 10_000))
def test_a_file_cut_anywhere_loses_at_most_its_torn_line(tmp_path: Path, end: int):
    out = tmp_path / "out.json"
    path = write(out, 0, 1, 2)
    content = path.read_bytes()
    torn = content[: end % (len(content) + 1)]
    path.write_bytes(torn)
    whole = max(0, torn.count(b"\n") - 1)
    with OutputStore(out, SEED, PERSONA) as store:
        assert store.completed == {number: item(number) for number in range(whole)}
        store.save(7, item(7))
    with OutputStore(out, SEED, PERSONA) as store:
        assert set(store.completed) == {*range(whole), 7}
    path.unlink()


def test_publishing_adds_to_what_the_user_had_and_leaves_no_part_file(tmp_path: Path):
    out = tmp_path / "out.json"
    out.write_text(json.dumps(OWN), encoding="utf-8-sig")
    out.chmod(0o600)
    path = write(out, 1, 0)
    publish(out)
    assert read(out) == [*OWN, item(0), item(1)]
    assert "Bríd" in out.read_text(encoding="utf-8")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert not path.exists()
    assert list(tmp_path.iterdir()) == [out]


def test_what_the_user_adds_during_a_run_is_kept(tmp_path: Path):
    out = tmp_path / "out.json"
    with OutputStore(out, SEED, PERSONA) as store:
        store.save(0, item(0))
        out.write_text(json.dumps(OWN))
        store.publish()
    assert read(out) == [*OWN, item(0)]


def test_a_kill_between_publishing_and_tidying_doubles_nothing(tmp_path: Path):
    out = tmp_path / "out.json"
    path = write(out, 0, 1)
    shutil.copy(path, tmp_path / "kept")
    publish(out)
    shutil.move(tmp_path / "kept", path)
    publish(out)
    assert read(out) == [item(0), item(1)]
    assert not path.exists()


def test_the_next_run_goes_on_behind_what_this_seed_has_published(tmp_path: Path):
    out = tmp_path / "out.json"
    write(out, 0, 4)
    publish(out)
    with OutputStore(out, SEED, PERSONA) as store:
        assert store.first == 5
    with OutputStore(out, SEED + 1, PERSONA) as store:
        assert store.first == 0


def test_a_half_surrogate_pair_of_the_users_survives(tmp_path: Path):
    out = tmp_path / "out.json"
    own = [{"conversations": [{"role": "user", "content": "\ud83d"}], "note": [1, None]}]
    out.write_text(json.dumps(own))
    write(out, 0)
    publish(out)
    assert read(out) == [*own, item(0)]


def test_a_link_stays_a_link(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "mine.json"
    target.write_text(json.dumps(OWN))
    out = tmp_path / "out.json"
    out.symlink_to(target)
    write(out, 0)
    publish(out)
    assert out.is_symlink()
    assert read(target) == [*OWN, item(0)]


def test_a_run_that_finished_nothing_leaves_nothing(tmp_path: Path):
    write(tmp_path / "new" / "out.json")
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "out.json holds no list"),
        ("[\n{", "out.json, line 2 is not JSON"),
        ('[{"text": "a"}]', "out.json, conversation 0"),
        ('[{"conversations": []}, {"conversations": [{"role": "user"}]}]', "out.json, conversation 1"),
        ('[{"conversations": "secret words"}]', "out.json, conversation 0"),
        (b"\xff\xfe", "out.json is not JSON in UTF-8"),
    ],
)
def test_a_file_of_another_format_is_refused_and_not_touched(tmp_path: Path, content, message: str):
    out = tmp_path / "out.json"
    out.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = out.read_bytes()
    complaint = refusal(out)
    assert message in complaint
    assert "Move it away, or set --out" in complaint
    assert "secret" not in complaint
    assert out.read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]


def test_a_list_is_not_written_under_a_name_for_lines(tmp_path: Path):
    assert "name it .json" in refusal(tmp_path / "out.JSONL")


def test_another_seed_or_persona_does_not_go_on_with_it(tmp_path: Path):
    path = write(tmp_path / "out.json", 0)
    before = path.read_bytes()
    assert "begun with another --seed or --persona" in refusal(tmp_path / "out.json", seed=1)
    assert "begun with another --seed or --persona" in refusal(tmp_path / "out.json", persona="def")
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", [b"nothing\n", b'{"number": "1"}\n', b"[]\n"])
def test_a_damaged_line_is_named(tmp_path: Path, damage: bytes):
    path = write(tmp_path / "out.json", 0)
    path.write_bytes(path.read_bytes() + damage)
    assert "out.json.part.jsonl, line 3 is damaged" in refusal(tmp_path / "out.json")


def test_two_runs_never_write_one_file(tmp_path: Path):
    with OutputStore(tmp_path / "out.json", SEED, PERSONA):
        assert "is being written by another run" in refusal(tmp_path / "out.json")


def test_a_place_that_cant_be_written_is_one_sentence(tmp_path: Path):
    (tmp_path / "file").touch()
    assert "can't be" in refusal(tmp_path / "file" / "out.json")
