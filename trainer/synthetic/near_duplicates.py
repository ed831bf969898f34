"""Near-duplicates: conversations whose answers are nearly those of an earlier one."""

from collections.abc import Iterable

from datasketch import MinHash, MinHashLSH

from trainer.data.duplicates import triples
from trainer.data.sample import Turn
from trainer.synthetic.rejection_reasons import DUPLICATE, Rejected

SIMILARITY = 0.6  # Jaccard, of word triples


class NearDuplicates:
    """The answers of all conversations so far, to reject new ones that are too similar."""

    def __init__(self, conversations: Iterable[Iterable[Turn]] = ()) -> None:
        self._lsh = MinHashLSH(threshold=SIMILARITY)
        self._hashes: list[MinHash] = []
        for turns in conversations:
            self._add(_minhash(turns))

    def check(self, turns: Iterable[Turn]) -> MinHash:
        """Raises Rejected when the conversation is similar to an earlier one."""
        new = _minhash(turns)
        # The index gives candidates on both sides of the threshold.
        if any(new.jaccard(self._hashes[index]) >= SIMILARITY for index in self._lsh.query(new)):
            raise Rejected(DUPLICATE)
        return new

    def add(self, turns: Iterable[Turn]) -> None:
        """Check and remember the conversation. Raises Rejected."""
        self._add(self.check(turns))

    def _add(self, new: MinHash) -> None:
        self._lsh.insert(len(self._hashes), new)
        self._hashes.append(new)


def _minhash(turns: Iterable[Turn]) -> MinHash:
    answers = " ".join(turn["content"] for turn in turns if turn["role"] == "assistant")
    hashed = MinHash()
    hashed.update_batch([triple.encode() for triple in triples(answers.lower())])
    return hashed
