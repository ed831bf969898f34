"""What the diary's routes answer, as OpenAPI shows it."""

from typing import Any, Literal, Self

from pydantic import BaseModel, Field

from services.diary.conflicts import Conflict, Pair
from services.diary.entry import Entry
from services.diary.job_ids import job_id
from services.diary.jobs import JobReport
from services.diary.ledger.imports import ImportReport


class EntryAccepted(BaseModel):
    """On disk; the job brings it into the index."""

    id: str
    version: int
    job_id: str
    status: Literal["queued"] = "queued"

    @classmethod
    def of(cls, entry: Entry) -> "EntryAccepted":
        return cls(id=entry.id, version=entry.version, job_id=job_id(entry.owner, entry.id, entry.version))


class EntryAnswer(BaseModel):
    """One version of an entry."""

    id: str
    version: int
    date: str = Field(description="as it was given")
    first_day: str = Field(description="the first of the days that the date spans, YYYY-MM-DD")
    last_day: str
    date_assumed: bool = Field(description="an import gave no date: it is the day of the import")
    text: str
    mood: str | None
    tags: list[str]
    written_at: str = Field(description="when this version was accepted, UTC")
    source: Literal["written", "import", "reflection"]
    origin: dict[str, Any] | None = Field(description="what a reflection came from: {turns, reflection}")
    import_id: str | None
    removed: bool = Field(description="true for the tombstone that a removed entry leaves in its history")
    status: Literal["queued", "indexed", "failed"] = Field(description="of this version's way into the index")
    reason: str | None = Field(description="why indexing failed")

    @classmethod
    def of(cls, entry: Entry, **more: Any) -> Self:
        names = set(EntryAnswer.model_fields) - {"tags", "status"}
        fields = {name: getattr(entry, name) for name in names}
        return cls(**fields, tags=list(entry.tags), status=entry.state.value, **more)


class EditedAnswer(EntryAnswer):
    """The entry as it stands now, and the job that brings the index to it."""

    job_id: str


class Erasure(BaseModel):
    """What of a purged entry is left on disk, and who still has to do something about it."""

    complete: bool
    pending: list[Literal["index", "ledger"]] = Field(
        description="`index`: the job is not done; `ledger`: the file is yet to be written anew. Ask again"
    )


class RemovedAnswer(EntryAccepted):
    """The entry is gone from every answer; the job makes the index forget it."""

    deleted: Literal[True] = True
    purged: bool
    erasure: Erasure | None = Field(description="with `purge`")


class EntryPage(BaseModel):
    """Some entries, newest day first."""

    object: Literal["list"] = "list"
    data: list[EntryAnswer]
    next_cursor: str | None = Field(description="for the next page; none on the last one")


class History(BaseModel):
    """All versions of an entry, newest first."""

    object: Literal["list"] = "list"
    data: list[EntryAnswer]


class Explanation(BaseModel):
    """Why an entry was found, as far as numbers don't say."""

    shown: str = Field(description="what of the entry a prompt would show")
    why: list[str] = Field(description="how dates in the question were read, and the like")
    duplicates: list[str] = Field(description="ids of entries that say nearly the same and were left out")


class SearchHit(EntryAnswer):
    """An entry that was found."""

    score: float
    score_parts: dict[str, float] = Field(
        description='what the score is the sum of, and, as "raw …", what the index found'
    )
    explanation: Explanation | None = Field(None, description="with `explain`")


class SearchResults(BaseModel):
    """Entries by relevance, best first."""

    object: Literal["list"] = "list"
    data: list[SearchHit]


class TagCount(BaseModel):
    """A tag, and how many entries carry it."""

    tag: str
    count: int


class Tags(BaseModel):
    """All tags in alphabetical order."""

    object: Literal["list"] = "list"
    data: list[TagCount]


class Deletion(BaseModel):
    """What a deletion by filter removed, or, as a dry run, would remove."""

    dry_run: bool
    count: int
    ids: list[str] = Field(description="the first 100, newest day first")


class RejectedRow(BaseModel):
    """A row of the file that is no entry."""

    line: int
    reason: str


class ImportAnswer(BaseModel):
    """What became of a file."""

    import_id: str
    job_id: str
    name: str
    accepted: int
    duplicates: int = Field(description="rows that the diary had already")
    restored: int = Field(
        description="of the accepted rows, those that had been removed from the diary and are back in it by "
        "this file; remove them again if that was not meant"
    )
    rejected: list[RejectedRow] = Field(description="the first 1000")
    rejected_count: int
    undated: int = Field(description="accepted rows without a date, dated with the day of the import")
    ignored_fields: list[str] = Field(description="of the file, that a diary does not keep")
    indexed: int
    queued: int
    failed: int
    created_at: str
    ended_at: str | None = Field(description="none while the file is being read")

    @classmethod
    def of(cls, report: ImportReport, job: str) -> "ImportAnswer":
        values = {
            name: getattr(report, name) for name in cls.model_fields if name not in ("import_id", "job_id")
        }
        return cls(import_id=report.id, job_id=job, **values)


class JobAnswer(BaseModel):
    """How a job stands."""

    id: str
    kind: Literal["entry", "import", "reflection", "reindex"]
    status: Literal["queued", "started", "finished", "failed"]
    reason: str | None = Field(description="why it failed, or was put off the last time")
    entry_id: str | None = Field(description="of the entry that is indexed, or that a reflection made")
    version: int | None
    attempts: int
    done: int | None = Field(description="of an import or a reindexing: entries that are indexed")
    total: int | None

    @classmethod
    def of(cls, report: JobReport) -> "JobAnswer":
        return cls(**{name: getattr(report, name) for name in cls.model_fields})


class JobPage(BaseModel):
    """Some jobs of one status."""

    object: Literal["list"] = "list"
    data: list[JobAnswer]
    next_cursor: str | None


class QueuedJob(BaseModel):
    """A job that was queued."""

    job_id: str
    status: Literal["queued"] = "queued"


class ReflectionAnswer(BaseModel):
    """The wish that the persona writes an entry from a conversation is on disk."""

    reflection_id: str
    job_id: str
    status: Literal["queued", "done", "failed"]
    entry_id: str | None = Field(description="of the entry that came of it, when it is done")


class ConflictSide(BaseModel):
    """One of two entries that disagree, and the passage that does."""

    id: str
    version: int
    date: str
    passage: str
    text: str


class ConflictAnswer(BaseModel):
    """Two passages that contradict each other; `a` is of the earlier day."""

    id: str
    a: ConflictSide
    b: ConflictSide
    settled: Literal["a", "b", "both", "neither"] | None
    judged_at: str

    @classmethod
    def of(cls, conflict: Conflict) -> "ConflictAnswer":
        a, b = _sides(conflict.pair)
        return cls(id=conflict.pair.id, a=a, b=b, settled=conflict.resolution, judged_at=conflict.judged_at)


class Conflicts(BaseModel):
    """Conflicts, newest verdict first."""

    object: Literal["list"] = "list"
    data: list[ConflictAnswer]
    unexamined: int = Field(description="entries not yet compared with others: ask again to go on with them")
    stopped_by: str | None = Field(description="why no more of them were compared, if something was wrong")


class DifferenceAnswer(BaseModel):
    """Something that the index has otherwise than the ledger."""

    entry_id: str
    kind: str
    what: str


class Verification(BaseModel):
    """Whether ledger and index are equal."""

    equal: bool
    data: list[DifferenceAnswer]


def _sides(pair: Pair) -> tuple[ConflictSide, ConflictSide]:
    a, b = (
        ConflictSide(id=entry.id, version=entry.version, date=entry.date, passage=passage, text=entry.text)
        for entry, passage in ((pair.a, pair.a_passage), (pair.b, pair.b_passage))
    )
    return a, b
