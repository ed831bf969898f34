"""Reading and writing files safely: what damaged archives raise."""

import struct
import zipfile
import zlib

# What zipfile and zlib raise for damaged bytes, found by setting every byte of an archive to every value.
# A wrong offset is a ValueError of the file underneath, an empty name an IndexError.
DAMAGED_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    IndexError,
    RuntimeError,
    NotImplementedError,
)
