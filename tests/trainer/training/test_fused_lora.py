"""The fused LoRA against PEFT's own: the same answers and gradients, and what is not plain is left alone.

.venv/bin/python -m pytest tests/trainer/training/test_fused_lora.py
"""

import copy
from dataclasses import dataclass

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from trainer.training.fused_lora import fuse

LAYERS = 2
LINEAR = 7 * LAYERS  # q, k, v, o, gate, up, down


@dataclass
class Passed:
    """What a step forward and back leaves: logits, and the gradients of inputs and adapters by name."""

    logits: torch.Tensor
    gradients: dict[str, torch.Tensor]

    def error(self, truth: "Passed") -> dict[str, float]:
        """Distance from the truth, relative to it, by name."""
        ours = {"logits": self.logits, **self.gradients}
        theirs = {"logits": truth.logits, **truth.gradients}
        assert ours.keys() == theirs.keys()
        return {name: distance(ours[name], theirs[name]) for name in theirs}


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.float() - b.float()).norm() / b.float().norm().clamp(min=1e-12)).item()


def lora(**settings: object) -> PeftModel:
    """A small Llama with biases and a LoRA on all its linear layers, all of it random."""
    torch.manual_seed(7)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": LAYERS, "vocab_size": 64}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    base = LlamaForCausalLM(LlamaConfig(**shape, **heads, attention_bias=True))
    config = LoraConfig(
        r=8, lora_alpha=16, task_type="CAUSAL_LM", **{"target_modules": "all-linear", **settings}
    )
    model = get_peft_model(base, config)
    for name, weight in model.named_parameters():
        if "lora_B" in name or name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.2)
    return model


def passed(model: PeftModel, adapter: bool = True) -> Passed:
    """One step forward and back, on fixed random inputs and with a fixed random gradient."""
    generator = torch.Generator().manual_seed(11)
    inputs = torch.randn(3, 9, 32, generator=generator).to(model.dtype).requires_grad_()
    weigh = torch.randn(3, 9, 64, generator=generator)
    model.zero_grad()
    if adapter:
        logits = model(inputs_embeds=inputs).logits
    else:
        with model.disable_adapter():
            logits = model(inputs_embeds=inputs).logits
    (logits.float() * weigh).sum().backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return Passed(
        logits.detach(), {name: g.clone() for name, g in gradients.items()} | {"inputs": inputs.grad}
    )


def in_bfloat16(model: PeftModel) -> PeftModel:
    """The base in bfloat16 and the adapters in float32, as a run holds them."""
    model = copy.deepcopy(model).to(torch.bfloat16)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data = weight.data.float()
    return model


def test_answers_and_all_gradients_are_pefts_in_float32():
    model = lora()
    theirs = passed(model)
    assert fuse(model) == LINEAR
    ours = passed(model)
    assert len(ours.gradients) == 2 * LINEAR + 1
    assert max(ours.error(theirs).values()) < 1e-4


def test_the_adapter_is_not_without_effect():
    model = lora()
    fuse(model)
    assert distance(passed(model).logits, passed(model, adapter=False).logits) > 0.1


def test_without_the_adapter_it_is_pefts_too():
    model = lora()
    theirs = passed(model, adapter=False)
    fuse(model)
    ours = passed(model, adapter=False)
    assert ours.gradients.keys() == {"inputs"}
    assert max(ours.error(theirs).values()) < 1e-6


def test_a_merged_adapter_is_not_added_twice():
    model = lora()
    fuse(model)
    before = passed(model).logits
    model.merge_adapter()
    with torch.no_grad():
        merged = model(inputs_embeds=torch.zeros(1, 1, 32)).logits
    model.unmerge_adapter()
    with torch.no_grad():
        plain = model(inputs_embeds=torch.zeros(1, 1, 32)).logits
    assert distance(merged, plain) < 1e-4
    assert distance(passed(model).logits, before) < 1e-4


def test_in_bfloat16_it_is_not_further_from_the_truth_than_peft_by_half():
    rounded = in_bfloat16(lora())
    truth = passed(copy.deepcopy(rounded).float())
    theirs = passed(rounded).error(truth)
    fuse(rounded)
    ours = passed(rounded).error(truth)
    worse = {name: (ours[name], theirs[name]) for name in ours if ours[name] > 2 * theirs[name]}
    assert worse == {}
    assert max(ours.values()) < 0.05


def test_the_adapters_gradients_stay_in_float32():
    model = in_bfloat16(lora())
    fuse(model)
    gradients = passed(model).gradients
    assert {g.dtype for name, g in gradients.items() if "lora_" in name} == {torch.float32}


@pytest.mark.parametrize("reentrant", [True, False])
def test_activations_that_are_computed_again_give_the_same_gradients(reentrant: bool):
    model = lora()
    theirs = passed(model)
    fuse(model)
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.train()
    assert max(passed(model).error(theirs).values()) < 1e-4


@pytest.mark.parametrize(
    "settings",
    [
        {"lora_dropout": 0.1},
        {"use_dora": True},
        {"lora_bias": True, "target_modules": ["q_proj", "o_proj"]},  # PEFT warns where the base has no bias
    ],
)
def test_what_is_not_covered_is_left_to_peft(settings: dict[str, object]):
    model = lora(**settings).eval()
    theirs = passed(model)
    assert fuse(model) == 0
    assert max(passed(model).error(theirs).values()) == 0


def test_layers_with_a_second_adapter_are_left_to_peft():
    model = lora()
    model.add_adapter("second", LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert fuse(model) == 0


def test_a_model_without_lora_has_nothing_to_fuse():
    assert fuse(torch.nn.Sequential(torch.nn.Linear(2, 2))) == 0
