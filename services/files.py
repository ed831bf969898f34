"""Reading and writing files safely: what damaged archives raise."""

import struct
import zipfile
import zlib

# What zipfile and zlib raise for damaged bytes: every byte of an archive was set to every value to find them. A wrong
# offset is a ValueError of the file underneath, an empty name an IndexError.
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
