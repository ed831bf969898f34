"""The responses of the diary's routes, as OpenAPI documents them."""

from typing import Any, Literal, Self

from pydantic import BaseModel, Field

from services.diary.conflicts import Conflict, Pair
from services.diary.entry import Entry
from services.diary.job_ids import job_id
from services.diary.jobs import JobReport
from services.diary.ledger.imports import ImportReport


class EntryAccepted(BaseModel):
    """The entry is on disk; the job indexes it."""

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
    date: str = Field(description="the date as it was sent")
    first_day: str = Field(description="the first of the days that the date spans, YYYY-MM-DD")
    last_day: str
    date_assumed: bool = Field(description="the import had no date, so this is the day of the import")
    text: str
    mood: str | None
    tags: list[str]
    written_at: str = Field(description="when this version was accepted, UTC")
    source: Literal["written", "import", "reflection"]
    origin: dict[str, Any] | None = Field(description="the source of a reflection: {turns, reflection}")
    import_id: str | None
    removed: bool = Field(description="true for the tombstone that a removed entry leaves in its history")
    status: Literal["queued", "indexed", "failed"] = Field(
        description="the state of this version in the index"
    )
    reason: str | None = Field(description="why indexing failed")

    @classmethod
    def of(cls, entry: Entry, **fields: Any) -> Self:
        names = set(EntryAnswer.model_fields) - {"tags", "status"}
        values = {name: getattr(entry, name) for name in names}
        return cls(**values, tags=list(entry.tags), status=entry.state.value, **fields)


class EditedAnswer(EntryAnswer):
    """The new version of the entry, and the job that indexes it."""

    job_id: str


class Erasure(BaseModel):
    """What is left of a purged entry on disk."""

    complete: bool
    pending: list[Literal["index", "ledger"]] = Field(
        description="`index`: the job is not done; `ledger`: the file has yet to be rewritten. Ask again"
    )


class RemovedAnswer(EntryAccepted):
    """The entry is removed from every answer; the job removes it from the index."""

    deleted: Literal[True] = True
    purged: bool
    erasure: Erasure | None = Field(description="with `purge`")


class EntryPage(BaseModel):
    """A page of entries, newest day first."""

    object: Literal["list"] = "list"
    data: list[EntryAnswer]
    next_cursor: str | None = Field(description="of the next page; null on the last one")


class History(BaseModel):
    """All versions of an entry, newest first."""

    object: Literal["list"] = "list"
    data: list[EntryAnswer]


class Explanation(BaseModel):
    """Why an entry was found, beyond its score."""

    shown: str = Field(description="the excerpt that a prompt would show")
    why: list[str] = Field(description="for example, how dates in the question were read")
    duplicates: list[str] = Field(description="ids of near-duplicates that were left out")


class SearchHit(EntryAnswer):
    """An entry, with its score."""

    score: float
    score_parts: dict[str, float] = Field(
        description='the parts that add up to the score, and, as "raw …", the scores of the index'
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
    """The entries that a deletion by filter removed, or, in a dry run, would remove."""

    dry_run: bool
    count: int
    ids: list[str] = Field(description="the first 100, newest day first")


class RejectedRow(BaseModel):
    """A row of the file that is not an entry."""

    line: int
    reason: str


class ImportAnswer(BaseModel):
    """The state of an import."""

    import_id: str
    job_id: str
    name: str
    accepted: int
    duplicates: int = Field(description="rows that the diary already had")
    restored: int = Field(
        description="accepted rows that had been removed from the diary and that this file restored; "
        "remove them again if that was not intended"
    )
    rejected: list[RejectedRow] = Field(description="the first 1000")
    rejected_count: int
    undated: int = Field(description="accepted rows without a date, dated with the day of the import")
    ignored_fields: list[str] = Field(description="fields of the file that a diary does not store")
    indexed: int
    queued: int
    failed: int
    created_at: str
    ended_at: str | None = Field(description="null while the file is being read")

    @classmethod
    def of(cls, report: ImportReport, job: str) -> "ImportAnswer":
        values = {
            name: getattr(report, name) for name in cls.model_fields if name not in ("import_id", "job_id")
        }
        return cls(import_id=report.id, job_id=job, **values)


class JobAnswer(BaseModel):
    """The state of a job."""

    id: str
    kind: Literal["entry", "import", "reflection", "reindex"]
    status: Literal["queued", "started", "finished", "failed"]
    reason: str | None = Field(description="why it failed, or why it was last deferred")
    entry_id: str | None = Field(description="of the entry that is indexed, or that a reflection wrote")
    version: int | None
    attempts: int
    done: int | None = Field(description="of an import or a reindexing: the number of indexed entries")
    total: int | None

    @classmethod
    def of(cls, report: JobReport) -> "JobAnswer":
        return cls(**{name: getattr(report, name) for name in cls.model_fields})


class JobPage(BaseModel):
    """A page of the jobs with one status."""

    object: Literal["list"] = "list"
    data: list[JobAnswer]
    next_cursor: str | None


class QueuedJob(BaseModel):
    """A job that was queued."""

    job_id: str
    status: Literal["queued"] = "queued"


class ReflectionAnswer(BaseModel):
    """The request for a reflection is on disk."""

    reflection_id: str
    job_id: str
    status: Literal["queued", "done", "failed"]
    entry_id: str | None = Field(description="of the entry that it wrote, when it is done")


class ConflictSide(BaseModel):
    """One of two contradictory entries, and its passage."""

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
    unexamined: int = Field(
        description="entries not yet compared with others; repeat the request to continue"
    )
    stopped_by: str | None = Field(description="the error that ended the comparison early, if any")


class DifferenceAnswer(BaseModel):
    """A difference between index and ledger."""

    entry_id: str
    kind: str
    what: str


class Verification(BaseModel):
    """Whether ledger and index agree."""

    equal: bool
    data: list[DifferenceAnswer]


def _sides(pair: Pair) -> tuple[ConflictSide, ConflictSide]:
    a, b = (
        ConflictSide(id=entry.id, version=entry.version, date=entry.date, passage=passage, text=entry.text)
        for entry, passage in ((pair.a, pair.a_passage), (pair.b, pair.b_passage))
    )
    return a, b
