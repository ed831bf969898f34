"""What every job is called: the ids that the worker, the queue and the HTTP contract share.

    <owner>-<entry id>-v<version>      one version of an entry into the index
    <owner>_import_<import id>         the entries of one import
    <owner>_reflection_<id>            a conversation becomes an entry
    reindex                            everything anew, beside the index that is searched

RQ allows letters, digits, `_` and `-`; the owner is hashed in. The twelve hex digits of the owner are
followed by `-` for entries alone, so no entry's id can look like another kind of job.
"""

import re
import uuid
from dataclasses import dataclass
from enum import StrEnum

from services.errors import NotFound

REINDEX_ID = "reindex"
_ENTRY = re.compile(r"-([A-Za-z0-9_-]{1,64})-v([1-9][0-9]{0,8})", re.ASCII)
_OTHER = re.compile(r"_(import|reflection)_([A-Za-z0-9_-]{1,64})", re.ASCII)


class JobKind(StrEnum):
    """What a job is about."""

    ENTRY = "entry"
    IMPORT = "import"
    REFLECTION = "reflection"
    REINDEX = "reindex"


@dataclass(frozen=True)
class JobName:
    """A job id that was read: what it is about. `version` is 0 for all but entries."""

    kind: JobKind
    about: str
    version: int = 0


def job_id(owner: str, entry_id: str, version: int) -> str:
    """The job that puts one version of an entry into the index, or a tombstone's entry out of it."""
    return f"{_hashed(owner)}-{entry_id}-v{version}"


def import_job_id(owner: str, import_id: str) -> str:
    """The job that puts the entries of one import into the index."""
    return f"{_hashed(owner)}_{JobKind.IMPORT}_{import_id}"


def reflection_job_id(owner: str, reflection_id: str) -> str:
    """The job that makes an entry of a conversation."""
    return f"{_hashed(owner)}_{JobKind.REFLECTION}_{reflection_id}"


def parse_job_id(owner: str, name: str) -> JobName:
    """What a job of this owner's is about. Raises NotFound for whatever is no job id of theirs."""
    if name == REINDEX_ID:
        return JobName(JobKind.REINDEX, "")
    whose, rest = name[:12], name[12:]
    if whose == _hashed(owner):
        if entry := _ENTRY.fullmatch(rest):
            return JobName(JobKind.ENTRY, entry[1], int(entry[2]))
        if other := _OTHER.fullmatch(rest):
            return JobName(JobKind(other[1]), other[2])
    raise job_not_found(name)


def job_not_found(name: str) -> NotFound:
    """The error for a job that is not there."""
    return NotFound(f"there is no job {name[:200]!r}", "id")


def _hashed(owner: str) -> str:
    return uuid.uuid5(uuid.NAMESPACE_OID, owner).hex[:12]
