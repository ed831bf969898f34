"""The same words twice: exact duplicates by their text, near ones by their word triples."""

import re

from datasketch import MinHash, MinHashLSH

from trainer.data.sample import Sample

EXACT, NEAR = "exact duplicate", "near duplicate"
PERMUTATIONS = 128
SEED = 1  # of the permutations: which near duplicates are found does not hang on the run's seed
# Rather look at a pair in vain than miss one: whatever is proposed is compared word by word.
FALSE_POSITIVE, FALSE_NEGATIVE = 0.1, 0.9
_WORD = re.compile(r"\w+")


def words_told(sample: Sample) -> str:
    """The words by which a sample is known, in lower case and single-spaced.

    Of a telling these are Ada's: Drew's question is ours. Of a conversation they are both speakers': the same
    short answer to another question is another conversation.
    """
    said = [sample.answer] if sample.askings else [turn["content"] for turn in sample.turns]
    return " ".join(" ".join(said).lower().split())


def triples(words: str) -> set[str]:
    """All runs of three words; of a shorter text, the text itself."""
    found = _WORD.findall(words)
    return set(map(" ".join, zip(found, found[1:], found[2:], strict=False))) or {words}


class Duplicates:
    """Remembers texts and knows one that comes again.

    Near duplicates have a Jaccard similarity of `threshold` or more. MinHash and locality-sensitive hashing
    propose them (Broder 1997; Indyk and Motwani 1998), so that a few just above the threshold are missed.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._known: list[str] = []
        self._exact: set[str] = set()
        self._minhash = MinHash(PERMUTATIONS, seed=SEED)
        weights = (FALSE_POSITIVE, FALSE_NEGATIVE)
        self._proposals = MinHashLSH(threshold, PERMUTATIONS, weights=weights) if threshold < 1 else None

    def find(self, sample: Sample) -> str:
        """What kind of duplicate a sample is of those before it; empty for a new one, which is remembered."""
        words = words_told(sample)
        if words in self._exact:
            return EXACT
        if self._proposals and self._is_near(words, self._proposals):
            return NEAR
        self._exact.add(words)
        return ""

    def _is_near(self, words: str, proposals: MinHashLSH) -> bool:
        """Compares with what is proposed, and joins it when there is nothing like it."""
        own = triples(words)
        minhash = self._minhash.copy()
        minhash.update_batch([triple.encode(errors="surrogatepass") for triple in own])
        if any(
            _jaccard(own, triples(self._known[place])) >= self.threshold for place in proposals.query(minhash)
        ):
            return True
        proposals.insert(len(self._known), minhash, check_duplication=False)
        self._known.append(words)
        return False


def _jaccard(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other)
