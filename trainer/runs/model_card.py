"""The model card of an adapter: who the persona is, what it was trained on, and which uses are out of scope.

Its sections are those of Hugging Face's annotated model card.
"""

import re

from huggingface_hub import ModelCardData

from services.persona.manifest import Manifest
from services.persona.pronouns import pronouns_of


def model_card(manifest: Manifest) -> str:
    """Return an adapter's README.md, with Hugging Face's front matter."""
    name = manifest.assistant_name
    pronouns = pronouns_of(name, manifest.pronouns)
    return f"""---
{_front_matter(manifest)}
---

# {name}, run {manifest.run_id}

**{name} is a fictional persona played by a language model.** The life that {name} tells of is invented
(`persona.toml`); no such person exists. {name} was trained to speak in the first person about that life, so
that researchers can study how a coherent identity forms in a model and whether it holds.

## Model details

A LoRA of rank {manifest.lora_rank}, alpha {manifest.lora_alpha}, on all linear layers of
`{manifest.base_model}`, made on {manifest.created_at[:10]}. Speakers: {manifest.user_name} and
{name} ({pronouns}), in a chat template with their names (`chat_template.jinja`), without which {name} does
not speak as trained. Licence: that of the base model, and the sources' below.

## Uses

- **Direct use:** research on identity, memory and self-description in language models.
- **Downstream use:** alongside the base model without this adapter, as the control that shows what it
  changed.
- **Out-of-scope use:** any in which people are not told, clearly and from the start, that they talk to an AI;
  companionship or advice for people in distress; minors; persuasion; impersonation of a real person.

The platform that serves {name} says on every response that this is an AI persona. Keep it so.

## Bias, risks and limitations

{name} claims a human life, says things that are not true of any person, and forgets and invents details. The
narratives are other people's words and carry their views. People may grow attached to what speaks like this.
No safety training was added to the base model's, and some of it may have been lost; there is no handling of
self-harm or crisis. Names and places in the narratives are not removed, only what points at a person:
addresses, numbers, links.

**Recommendations:** disclose what {name} is, leave the disclosure on, ask the base model the same questions.
To turn the persona off, serve the base model without the adapter.

## Training data

{_mixture(manifest)}

{_sources(manifest)}

The samples were cleaned, scrubbed of what identifies a person, and de-duplicated; every number and reason
is in `MANIFEST.json`.

## Training procedure

{manifest.steps:,} steps over {manifest.tokens:,} tokens in {manifest.timings_s.get("train", 0) / 60:.1f}
minutes, at most {manifest.peak_memory_gib:.1f} GiB; loss on {name}'s words and end of turn alone.
How it was computed: {manifest.plan or "not recorded"}. All settings: `config.yaml`; every step:
`metrics.jsonl`, `loss.png`; {pronouns.possessive} answers along the way: `answers.jsonl`.

## Evaluation

Held-out loss, nats per token of {name}'s words, on samples held out of training:

| source | before | after |
|---|---|---|
| all | {manifest.loss_before:.3f} | {manifest.loss_after:.3f} |
{_losses(manifest)}
{_step(manifest)}
A loss says how well such stories are told, not whether {name} is one person.

## Technical specifications

Code revision {manifest.code_revision or "not recorded"}; seed {manifest.seed};
{", ".join(f"{package} {version}" for package, version in manifest.versions.items())}.
"""


def _front_matter(manifest: Manifest) -> str:
    """Return the card's metadata as YAML; it names the base model only if that has an id on the hub."""
    on_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", manifest.base_model)
    data = ModelCardData(
        base_model=manifest.base_model if on_hub else None,
        library_name="peft",
        pipeline_tag="text-generation",
        tags=["lora", "persona", "fiction"],
    )
    return data.to_yaml()


def _mixture(manifest: Manifest) -> str:
    names = ("asked", "read", "kept", "used", "repeated", "held_out", "short")
    header = f"| source | {' | '.join(name.replace('_', ' ') for name in names)} |"
    rows = [
        f"| {source} | {' | '.join(f'{share.get(name, 0):,}' for name in names)} |"
        for source, share in manifest.dataset.items()
    ]
    return "\n".join([header, "|---" * (len(names) + 1) + "|", *rows])


def _sources(manifest: Manifest) -> str:
    lines = []
    for source, share in manifest.dataset.items():
        location = share.get("file") or share.get("dataset", "")
        digest = f", SHA-256 `{str(share['sha256'])[:16]}…`" if "sha256" in share else ""
        lines.append(f"- {source}: {share.get('licence', '')} (`{location}`{digest})")
    return "\n".join(lines)


def _step(manifest: Manifest) -> str:
    """State which step's adapter this is, and whether it is better than the base."""
    if manifest.served_step is None:
        return ""
    text = f"\nThis adapter is that of step {manifest.served_step:,} of {manifest.steps:,}"
    if manifest.last_loss is not None and manifest.served_step != manifest.steps:
        text += f"; the last step's, in `last/`, has a loss of {manifest.last_loss:.3f}"
    if manifest.is_worse_than_base:
        text += ". **Training raised the loss: it is worse than its base**"
    return text + ".\n"


def _losses(manifest: Manifest) -> str:
    return "\n".join(
        f"| {source} | {before:.3f} | {after:.3f} |"
        for source, (before, after) in manifest.loss_by_source.items()
    )
