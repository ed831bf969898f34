"""Text of others on a terminal: what a terminal would obey is shown and not obeyed.

An escape sequence in a diary entry or an answer could recolour the screen, retitle the window, hide a line
or fill the clipboard (OSC 52). Every such sequence begins with a control character, so it is enough to
replace those, one by one. Nothing has to be remembered between the pieces of a stream.
"""

_SYMBOLS = 0x2400  # Unicode's pictures of the C0 controls: ESC is shown as ␛
_C0 = [code for code in range(0x20) if chr(code) not in "\n\t\r"]
# C1 controls, halves of surrogate pairs, and the overrides that reorder what a reader sees.
_UNSHOWN = (*range(0x80, 0xA0), *range(0xD800, 0xE000), 0x202D, 0x202E)

_TABLE: dict[int, int | None] = {code: _SYMBOLS + code for code in _C0}
_TABLE |= dict.fromkeys(_UNSHOWN, 0xFFFD)
_TABLE |= {0x7F: 0x2421, ord("\r"): None}


def printable(text: object) -> str:
    """`text` without anything that a terminal would obey, lines and tabs aside."""
    return str(text).translate(_TABLE)
