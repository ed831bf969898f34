"""The candidates of a question: chunks from all days that are searched, and more from those it mentions."""

from dataclasses import dataclass

from services.diary.index.engine import OwnerIndex
from services.diary.index.types import Hit, IndexQuery
from services.diary.recall.cancellation import Cancellation
from services.diary.recall.ranking import retelling_end
from services.diary.recall.temporal_query import DateMention

CANDIDATES = 200  # by each vector; among 14,600 chunks 100 found as much as 800 (recall@10 79.4, 79.7)
DATED_CANDIDATES = 50  # more for each mention of dates
MAX_DATED_CANDIDATES = 3_200  # how many are searched for these, where most entries only have an assumed day


@dataclass(frozen=True)
class CandidateSearch:
    """A search of one owner's index from `first_day` to `last_day` (YYYY-MM-DD, "" for no limit)."""

    index: OwnerIndex
    query: IndexQuery
    mentions: list[DateMention]
    first_day: str
    last_day: str
    cancellation: Cancellation

    def hits(self, limit: int) -> list[Hit]:
        """The `limit` best by each vector, then those of mentioned days; a chunk may come twice.

        Raises DiaryUnavailable, and SearchCancelled once the search is cancelled.
        """
        hits = self._search(limit, self.first_day, self.last_day)
        for mention in self.mentions:
            hits += self._dated_hits(mention)
        return hits

    def _dated_hits(self, mention: DateMention) -> list[Hit]:
        """Entries whose day was only assumed do not count towards DATED_CANDIDATES."""
        first = max(mention.first.isoformat(), self.first_day)
        last = retelling_end(mention).isoformat()
        last = min(last, self.last_day) if self.last_day else last
        limit, dated = DATED_CANDIDATES, list[Hit]()
        while first <= last and limit <= MAX_DATED_CANDIDATES:
            hits = self._search(limit, first, last)
            dated = [hit for hit in hits if hit.dated]
            if len(hits) < limit or len(dated) >= DATED_CANDIDATES:
                break
            limit *= 4
        return dated

    def _search(self, limit: int, first_day: str, last_day: str) -> list[Hit]:
        self.cancellation.check()
        return self.index.search(self.query, limit, first_day, last_day)
