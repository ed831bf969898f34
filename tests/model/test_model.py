"""The engine: vLLM is started from the manifest, or not at all, with one line that says why."""

import json
import re
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from manifests import make_manifest

from services.errors import ConfigError
from services.model import cpu_lora
from services.model.cpu_lora import bgmv_expand, bgmv_expand_slice, bgmv_shrink
from services.model.settings import ModelSettings, api_key
from services.model.vllm_command import MAX_LORA_RANKS, vllm_command, vllm_environment

MANIFEST = make_manifest(lora_rank=128, lora_alpha=256)


def command(on_cpu: bool, **environment: str) -> list[str]:
    settings = ModelSettings.from_environment(environment)
    return vllm_command(MANIFEST, Path("/runs/r"), settings, on_cpu=on_cpu)


def after(option: str, argv: list[str]) -> str:
    return argv[argv.index(option) + 1]


def test_base_adapter_rank_and_template_come_from_the_manifest():
    argv = command(on_cpu=False)
    assert argv[:3] == [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    assert after("--model", argv) == "Qwen/Qwen3-8B"
    assert after("--max-lora-rank", argv) == "128"
    assert after("--chat-template", argv) == "/runs/r/chat_template.jinja"
    assert json.loads(after("--lora-modules", argv))["path"] == "/runs/r"


@pytest.mark.parametrize(("rank", "room"), [(1, 1), (2, 8), (48, 64), (65, 128), (257, 320), (512, 512)])
def test_any_rank_is_served_in_the_next_room_that_vllm_has(rank: int, room: int):
    manifest = replace(MANIFEST, lora_rank=rank)
    argv = vllm_command(manifest, Path("/runs/r"), ModelSettings.from_environment({}), on_cpu=False)
    assert after("--max-lora-rank", argv) == str(room)


def test_a_rank_that_vllm_has_no_room_for_is_refused():
    settings = ModelSettings.from_environment({})
    with pytest.raises(ConfigError, match="the adapter has rank 513, and vLLM serves 512 at most"):
        vllm_command(replace(MANIFEST, lora_rank=513), Path("/runs/r"), settings, on_cpu=False)


def test_the_rooms_are_those_of_the_vllm_that_is_installed():
    source = Path(find_spec("vllm").submodule_search_locations[0], "config", "lora.py").read_text()
    (listed,) = re.findall(r"MaxLoRARanks = Literal\[([\d, ]+)\]", source)
    assert tuple(map(int, listed.split(","))) == MAX_LORA_RANKS


def test_the_cpu_leaves_memory_to_the_rest_of_a_bare_machine():
    assert after("--gpu-memory-utilization", command(on_cpu=True)) == "0.2"
    assert "--gpu-memory-utilization" not in command(on_cpu=False)


def test_what_the_user_set_in_the_environment_wins():
    settings = ModelSettings.from_environment({"MODEL_PORT": "9000"})
    made = vllm_environment({"VLLM_CPU_NUM_OF_RESERVED_CPU": "1"}, settings, base_is_local=True, on_cpu=True)
    assert made["VLLM_CPU_NUM_OF_RESERVED_CPU"] == "1"
    assert made["HF_HUB_OFFLINE"] == "1"
    assert after("--port", command(on_cpu=True, MODEL_PORT="9000")) == "9000"


def test_the_key_is_on_no_command_line_and_that_of_a_file_in_no_environment(tmp_path: Path):
    (tmp_path / "MODEL_API_KEY").write_text("from-a-file\n")
    for environment, key in (({"MODEL_API_KEY": "secret"}, "secret"), ({}, "from-a-file")):
        assert api_key(environment, tmp_path) == key
        settings = ModelSettings.from_environment(environment)
        argv = vllm_command(MANIFEST, Path("/runs/r"), settings, on_cpu=False)
        assert not [word for word in argv if key in word]
        assert after("--middleware", argv) == "services.model.guard.Guard"
        made = vllm_environment(environment, settings, base_is_local=True, on_cpu=False)
        assert (made.get("MODEL_API_KEY"), made["MODEL_HOST"]) == (
            environment.get("MODEL_API_KEY"),
            "127.0.0.1",
        )


@pytest.mark.parametrize("value", ["x", "-1", "0", ""])
def test_a_setting_that_is_no_number_is_refused_by_name(value: str):
    with pytest.raises(ConfigError, match="MODEL_MAX_LEN"):
        ModelSettings.from_environment({"MODEL_MAX_LEN": value})


def test_a_packaged_base_that_was_never_converted_is_refused_with_the_remedy(tmp_path: Path):
    manifest = replace(MANIFEST, base_model="package:smollm2-135m-instruct")
    settings = ModelSettings.from_environment({"ADA_MODEL_CACHE": str(tmp_path)})
    with pytest.raises(ConfigError, match="make train"):
        vllm_command(manifest, tmp_path, settings, on_cpu=True)


SLOTS, ROWS, WIDE, RANK = 2, 7, 12, 4


@pytest.mark.parametrize(
    "slots", [[0] * ROWS, [-1] * ROWS, [0, -1, 1, 0, -1, 1, 0], [1, 1, -1, -1, -1, 0, 0]]
)
def test_each_row_gets_its_own_adapter_and_no_adapter_means_untouched(slots: list[int]):
    torch.manual_seed(0)
    x, down = torch.randn(ROWS, WIDE), torch.randn(SLOTS, 1, RANK, WIDE)
    up = torch.randn(SLOTS, 1, WIDE, RANK)
    chosen = torch.tensor(slots)
    small = torch.zeros(ROWS, RANK)
    bgmv_shrink(x, down, small, chosen, scaling=0.5)
    whole, part = torch.ones(ROWS, WIDE), torch.ones(ROWS, 2 * WIDE)
    bgmv_expand(small, up, whole, chosen, add_inputs=True)
    bgmv_expand_slice(small, up, part, chosen, WIDE, WIDE, add_inputs=True)
    for row, slot in enumerate(slots):
        expected = torch.zeros(WIDE) if slot < 0 else 0.5 * (x[row] @ down[slot, 0].T) @ up[slot, 0].T
        torch.testing.assert_close(whole[row], 1 + expected)
        torch.testing.assert_close(part[row, WIDE:], 1 + expected)
        torch.testing.assert_close(part[row, :WIDE], torch.ones(WIDE))


@pytest.mark.parametrize("slots", [[0, 0], [0, -1], [-1, 0], [-1, -1]])
def test_rows_beyond_the_batch_are_padding_and_left_alone(slots: list[int]):
    """clients/crash_cpu_lora.py: where the batch was of both models, this was an IndexError."""
    x, down, out = torch.ones(4, 3), torch.ones(1, 1, 2, 3), torch.zeros(4, 2)
    bgmv_shrink(x, down, out, torch.tensor(slots))
    assert out.tolist() == [*([3, 3] if slot == 0 else [0, 0] for slot in slots), [0, 0], [0, 0]]
    bgmv_expand(torch.ones(4, 2), torch.ones(1, 1, 3, 2), whole := torch.zeros(4, 3), torch.tensor(slots))
    assert whole.tolist() == [*([2] * 3 if slot == 0 else [0] * 3 for slot in slots), [0] * 3, [0] * 3]


class Runner:
    """As much of vLLM's model runner as the log probabilities of prompts ask for; remembers the mappings."""

    def __init__(self, computed: dict[str, int]) -> None:
        self.lora_config = True
        self.num_prompt_logprobs = {"echo": 1, "late": 1, "waits": 1}
        self.input_batch = SimpleNamespace(
            req_ids=["talk", "echo", "late"], req_id_to_index={"talk": 0, "echo": 1, "late": 2}
        )
        self.requests = {
            name: SimpleNamespace(prompt_token_ids=list(range(6)), num_computed_tokens=number)
            for name, number in computed.items()
        }
        self.mapped: list[list[int]] = []

    def set_active_loras(self, _batch, _scheduled, rows) -> None:
        self.mapped.append(rows.tolist())


def test_each_prompts_logits_are_computed_under_its_own_adapter(monkeypatch):
    request = []

    def vllms_own(_runner, _states, scheduled):
        request.append(scheduled)
        return dict.fromkeys(scheduled)

    monkeypatch.setattr(cpu_lora, "_vllms_own", [vllms_own])
    runner = Runner({"echo": 0, "late": 4})
    result = cpu_lora.prompt_logprobs(runner, None, {"talk": 1, "echo": 4, "late": 2})
    assert request == [{"echo": 4}, {"late": 2}]
    assert runner.mapped == [[0, 4, 0], [0, 0, 1]]
    assert set(result) == {"echo", "late"}
