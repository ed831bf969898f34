"""metrics.jsonl: what a kill tore is dropped, what is read out of the lines, and the picture of them.

.venv/bin/python -m pytest tests/trainer/runs/test_metrics.py
"""

import json
import math
import struct
from pathlib import Path

import pytest

from trainer.runs.metrics import eval_losses, median_speed, plot_loss, read_lines, truncate_lines

LINES = [{"step": 0, "eval_all_loss": 3.5}, {"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.5}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def write(path: Path, lines: list[dict[str, object]], torn: str = "") -> None:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_text(text + torn, encoding="utf-8")


class TestReading:
    def test_a_file_that_is_not_there_has_no_lines(self, path: Path):
        assert read_lines(path) == []

    def test_lines_are_read_as_they_were_written(self, path: Path):
        write(path, LINES)
        assert read_lines(path) == LINES

    @pytest.mark.parametrize(
        "torn", ["{", '{"step": 3, "lo', '{"step": 3, "loss": 2.', '{"step": 3, "loss": "']
    )
    def test_a_torn_last_line_is_dropped(self, path: Path, torn: str):
        write(path, LINES, torn)
        assert read_lines(path) == LINES

    def test_lines_are_read_up_to_and_with_a_step(self, path: Path):
        write(path, LINES)
        assert read_lines(path, up_to_step=1) == LINES[:2]

    def test_a_loss_that_is_no_number_is_read_as_such(self, path: Path):
        write(path, [{"step": 1, "loss": math.nan}])
        assert math.isnan(read_lines(path)[0]["loss"])

    def test_a_line_torn_inside_a_letter_is_dropped(self, path: Path):
        write(path, LINES)
        with path.open("ab") as file:
            file.write('{"step": 3, "answer": "née'.encode()[:-2])  # half an é
        assert read_lines(path) == LINES

    @pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85"])
    def test_what_only_unicode_calls_a_new_line_does_not_end_a_line(self, path: Path, mark: str):
        answers = [{"step": 0, "answer": f"One.{mark}Two."}, {"step": 10, "answer": "Three."}]
        write(path, answers)
        assert read_lines(path) == answers


class TestKeeping:
    def test_later_lines_and_a_torn_one_are_cut_off_the_file(self, path: Path):
        write(path, LINES, torn='{"step": 3, "lo')
        assert truncate_lines(path, up_to_step=1) == LINES[:2]
        assert read_lines(path) == LINES[:2]
        assert path.read_text().endswith("}\n")

    def test_what_is_written_next_begins_a_line(self, path: Path):
        write(path, LINES, torn="{")
        truncate_lines(path, up_to_step=2)
        with path.open("a") as file:
            file.write('{"step": 3}\n')
        assert read_lines(path) == [*LINES, {"step": 3}]

    def test_letters_stay_as_they_are(self, path: Path):
        write(path, [{"step": 0, "answer": "née, 你好"}])
        truncate_lines(path, up_to_step=0)
        assert "née, 你好" in path.read_text(encoding="utf-8")

    def test_a_file_that_is_not_there_becomes_an_empty_one(self, path: Path):
        assert truncate_lines(path, up_to_step=5) == []
        assert path.read_text() == ""


class TestHeldOutLosses:
    def test_each_source_has_its_first_and_its_last(self):
        lines = [
            {"step": 0, "eval_all_loss": 3.5, "eval_reddit_loss": 4.0},
            {"step": 5, "loss": 3.0},
            {"step": 5, "eval_all_loss": 3.2, "eval_runtime": 1.0},
            {"step": 9, "eval_all_loss": 2.5, "eval_reddit_loss": 3.0},
        ]
        assert eval_losses(lines) == {"all": [3.5, 2.5], "reddit": [4.0, 3.0]}

    def test_one_evaluation_is_the_first_and_the_last(self):
        assert eval_losses(LINES) == {"all": [3.5, 3.5]}

    def test_training_alone_has_none(self):
        assert eval_losses(LINES[1:]) == {}


class TestSpeed:
    def test_it_is_the_median_whatever_one_slow_step_does(self):
        lines = [{"step": n, "tokens_per_s": speed} for n, speed in enumerate([900.0, 1.0, 1000.0])]
        assert median_speed([*lines, {"step": 9, "loss": 2.0}]) == 900.0

    def test_without_a_measurement_it_is_nothing(self):
        assert median_speed(LINES) == 0.0


class TestPlot:
    def test_the_loss_is_drawn_as_a_picture(self, path: Path):
        write(path, [*LINES, {"step": 2, "eval_all_loss": 2.75, "eval_reddit_loss": 2.9}])
        plot_loss(path.parent)
        assert size(path.parent / "loss.png") == (960, 540)

    def test_a_torn_last_line_does_not_stop_it(self, path: Path):
        write(path, LINES, torn='{"step": 3')
        plot_loss(path.parent)
        assert size(path.parent / "loss.png") == (960, 540)

    def test_no_figure_stays_open(self, path: Path):
        import matplotlib.pyplot as plt

        write(path, LINES)
        plot_loss(path.parent)
        assert plt.get_fignums() == []


def size(png: Path) -> tuple[int, int]:
    """Width and height, in pixels, as the PNG's header tells them."""
    header = png.read_bytes()[:24]
    assert header.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", header[16:24])
    return width, height
