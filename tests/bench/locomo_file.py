"""Files in LoCoMo's form, written and read for tests."""

import json
from pathlib import Path
from typing import Any

from services.bench import locomo


def read(file: Path, content: Any) -> list[locomo.Conversation]:
    """The conversations of a file with this content; the file stays."""
    file.write_text(json.dumps(content), encoding="utf-8")
    return locomo.load(file)
