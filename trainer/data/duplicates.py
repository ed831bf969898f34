"""Duplicates among samples: exact ones by their words, near ones by their word triples."""

import re

from datasketch import MinHash, MinHashLSH

from trainer.data.sample import Sample

EXACT, NEAR = "exact duplicate", "near duplicate"
PERMUTATIONS = 128
SEED = 1  # of the permutations: which near duplicates are found does not depend on the run's seed
# Weights of the LSH's errors. A pair proposed in vain costs one comparison; a missed pair stays a duplicate.
FALSE_POSITIVE, FALSE_NEGATIVE = 0.1, 0.9
_WORD = re.compile(r"\w+")


def compared_words(sample: Sample) -> str:
    """The words by which a sample is compared, in lower case and single-spaced.

    Of a narrative these are Ada's: its question is one of our prompts. Of a conversation they are both
    speakers': the same short answer to another question is another conversation.
    """
    texts = [sample.answer] if sample.prompt_variants else [turn["content"] for turn in sample.turns]
    return " ".join(" ".join(texts).lower().split())


def triples(words: str) -> set[str]:
    """All runs of three words; the text itself when it is shorter."""
    tokens = _WORD.findall(words)
    return set(map(" ".join, zip(tokens, tokens[1:], tokens[2:], strict=False))) or {words}


class Duplicates:
    """Remembers samples and recognises their duplicates.

    Near duplicates have a Jaccard similarity |A ∩ B| / |A ∪ B| of `threshold` or more, where A and B are the
    sets of word triples. MinHash and locality-sensitive hashing propose candidates (Broder 1997; Indyk and
    Motwani 1998), so that a few pairs just above the threshold are missed.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._texts: list[str] = []
        self._exact: set[str] = set()
        self._minhash = MinHash(PERMUTATIONS, seed=SEED)
        weights = (FALSE_POSITIVE, FALSE_NEGATIVE)
        self._proposals = MinHashLSH(threshold, PERMUTATIONS, weights=weights) if threshold < 1 else None

    def find(self, sample: Sample) -> str:
        """EXACT or NEAR for a duplicate of an earlier sample; empty for a new one, which is remembered."""
        words = compared_words(sample)
        if words in self._exact:
            return EXACT
        if self._proposals and self._is_near(words, self._proposals):
            return NEAR
        self._exact.add(words)
        return ""

    def _is_near(self, words: str, proposals: MinHashLSH) -> bool:
        """Compare with each candidate, and add the text to the index when none is similar."""
        own = triples(words)
        minhash = self._minhash.copy()
        minhash.update_batch([triple.encode(errors="surrogatepass") for triple in own])
        candidates = (triples(self._texts[index]) for index in proposals.query(minhash))
        if any(_jaccard(own, candidate) >= self.threshold for candidate in candidates):
            return True
        proposals.insert(len(self._texts), minhash, check_duplication=False)
        self._texts.append(words)
        return False


def _jaccard(first: set[str], second: set[str]) -> float:
    return len(first & second) / len(first | second)
