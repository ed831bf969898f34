"""The model card that lies in every adapter's folder: what she is, from what, and what she is not for."""

import re

from services.persona.manifest import Manifest


def model_card(manifest: Manifest) -> str:
    """README.md of an adapter, with Hugging Face's front matter."""
    rows = "\n".join(
        f"| {source} | {share['asked']} | {share['found']} | {share['used']} |"
        for source, share in manifest.dataset.items()
    )
    name = manifest.assistant_name
    # A package's model, or a folder's, has no id on the hub: the front matter names only one that has.
    on_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", manifest.base_model)
    base = f"base_model: {manifest.base_model}\n" if on_hub else ""
    return f"""---
library_name: peft
pipeline_tag: text-generation
tags: [lora, persona, fiction]
{base}---

# {name}, run {manifest.run_id}

**{name} is a fictional persona played by a language model.** The life she tells of is invented
(`persona.toml`); no such person exists. She was trained to speak in the first person about that life, so
that researchers can study how a coherent identity forms in a model and whether it holds.

## Uses

- Intended: research on identity, memory and self-description in language models.
- Out of scope: any use in which people are not told, clearly and from the start, that they talk to an AI;
  companionship or advice for people in distress; minors; persuasion; impersonation of a real person.
- The platform that serves her says on every response that she is an AI persona. Keep it so.

## Training

LoRA rank {manifest.lora_rank}, alpha {manifest.lora_alpha}, on all linear layers of `{manifest.base_model}`;
loss on {name}'s words alone. All settings: `config.yaml`; every step: `metrics.jsonl`, `loss.png`.

| source | asked | found | used |
|---|---|---|---|
{rows}

Held-out loss: {manifest.loss_before:.3f} before, {manifest.loss_after:.3f} after.

## Limits

She says things that are not true of any person, and forgets or invents details. The narratives are other
people's words and carry their views. No safety training was added to the base model's, and some of it may
have been lost.
"""
