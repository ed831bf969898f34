"""The bench of training: a recipe that fails says why, and is no success.

.venv/bin/python -m pytest tests/trainer/test_bench.py
"""

import json
import sys

import pytest

from trainer.bench.__main__ import RESULT, _in_its_own_process, table, without_bars

BAR = "  0%|          | 0/12 [00:00<?, ?it/s]\r 50%|█████     | 6/12 [00:03<00:03,  1.9it/s, loss=2.1]"
FAILS = f"""
import sys
sys.stderr.write({BAR!r} + "Traceback (most recent call last):\\n  File x\\n")
sys.stderr.write("TypeError: varlen_attn() got an unexpected keyword argument 'enable_gqa'\\n" + {BAR!r})
"""


def child(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_the_error_is_told_and_not_the_bar_behind_it(capsys: pytest.CaptureFixture[str]):
    result = f"\nprint('\\n' + {RESULT!r} + {json.dumps({'failed': 'TypeError: enable_gqa'})!r})"
    row = _in_its_own_process("Ada", child(FAILS + result))
    assert row == {"recipe": "Ada", "failed": "TypeError: enable_gqa"}
    text = capsys.readouterr()
    assert text.out == "Ada: not measured (TypeError: enable_gqa)\n"
    assert "unexpected keyword argument 'enable_gqa'" in text.err
    assert "it/s" not in text.err


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        ("\nsys.exit(3)", "exit code 3: TypeError"),
        ("\nimport os; os.abort()", "killed by signal 6: TypeError"),
    ],
)
def test_a_process_that_leaves_no_result_is_told_by_its_end_and_last_words(ending: str, text: str):
    assert str(_in_its_own_process("Ada", child(FAILS + ending))["failed"]).startswith(text)


def test_a_recipe_that_is_not_installed_is_left_out_in_one_line(capsys: pytest.CaptureFixture[str]):
    failed = json.dumps({"failed": "not installed: unsloth"})
    row = _in_its_own_process("Unsloth", child(FAILS + f"\nprint({RESULT!r} + {failed!r})"))
    assert capsys.readouterr().err == ""
    assert "not measured: not installed: unsloth" in table([row])


def test_what_is_said_behind_a_bar_on_its_line_stays():
    assert without_bars(f"{BAR}bench: no such model\n") == "bench: no such model"
