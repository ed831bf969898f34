"""Job ids, which the worker, the queue and the HTTP contract share.

    <owner>-<entry id>-v<version>      index one version of an entry
    <owner>_import_<import id>         index the entries of one import
    <owner>_reflection_<id>            write an entry from a conversation
    reindex                            fill a new index, and switch to it

RQ allows letters, digits, `_` and `-`, so the owner is hashed. Only in an entry's job a `-` follows the
twelve hex digits of the owner, so no entry's id can look like another kind of job.
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
    """The kinds of jobs."""

    ENTRY = "entry"
    IMPORT = "import"
    REFLECTION = "reflection"
    REINDEX = "reindex"


@dataclass(frozen=True)
class JobName:
    """A parsed job id. `subject` is the id of the entry, import or reflection; `version` is an entry's."""

    kind: JobKind
    subject: str
    version: int = 0


def job_id(owner: str, entry_id: str, version: int) -> str:
    """The job that indexes one version of an entry, or deletes a tombstone's entry from the index."""
    return f"{_hash(owner)}-{entry_id}-v{version}"


def import_job_id(owner: str, import_id: str) -> str:
    """The job that indexes the entries of one import."""
    return f"{_hash(owner)}_{JobKind.IMPORT}_{import_id}"


def reflection_job_id(owner: str, reflection_id: str) -> str:
    """The job that writes an entry from a conversation."""
    return f"{_hash(owner)}_{JobKind.REFLECTION}_{reflection_id}"


def parse_job_id(owner: str, name: str) -> JobName:
    """Parse the id of one of the owner's jobs. Raises NotFound for anything else."""
    if name == REINDEX_ID:
        return JobName(JobKind.REINDEX, "")
    owner_hash, rest = name[:12], name[12:]
    if owner_hash == _hash(owner):
        if match := _ENTRY.fullmatch(rest):
            return JobName(JobKind.ENTRY, match[1], int(match[2]))
        if match := _OTHER.fullmatch(rest):
            return JobName(JobKind(match[1]), match[2])
    raise job_not_found(name)


def job_not_found(name: str) -> NotFound:
    """The error for a job that does not exist."""
    return NotFound(f"there is no job {name[:200]!r}", "id")


def _hash(owner: str) -> str:
    return uuid.uuid5(uuid.NAMESPACE_OID, owner).hex[:12]
