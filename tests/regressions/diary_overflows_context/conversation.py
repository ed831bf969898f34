"""Eight long entries, a chat of 45 turns that fits 4096 tokens by itself, and a question about them."""

import random

WORDS = (
    "river", "kettle", "brother", "window", "Tuesday", "letter", "potato", "winter", "engine", "coat",
    "market",
    "ladder", "church", "butter", "tram", "fever", "garden", "ribbon", "stove", "wool", "pocket", "bridge",
    "lamp", "copper", "fence", "onion", "sailor", "drum",
)  # fmt: skip
_random = random.Random(4)


def words(number: int) -> str:
    """So many words at random."""
    return " ".join(_random.choice(WORDS) for _ in range(number))


ENTRIES = [
    {"date": f"2026-10-{day:02}", "text": f"Day {day}: I painted the boat blue with Tom. {words(190)}"}
    for day in range(1, 9)
]
HISTORY = [
    turn
    for _ in range(22)
    for turn in (
        {"role": "user", "content": f"Tell me more. {words(48)}"},
        {"role": "assistant", "content": words(58)},
    )
]
QUESTION = {"role": "user", "content": "Who painted the boat with you?"}
