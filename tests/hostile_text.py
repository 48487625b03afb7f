"""Names as a stranger may choose them: markup, commands of terminals, and characters that change the order of text."""

from __future__ import annotations

import re

HOSTILE = {
    "an end tag": "d[/x]",
    "a tag": "[red]x",
    "a closing tag of a prompt": "[/INST]",
    "the clipboard": "a\x1b]52;c;Zm9v\x07b",
    "a cleared screen": "a\x1b[2Jb",
    "a hyperlink": "a\x1b]8;;http://e.org\x1b\\b",
    "a control sequence in one byte": "a\x9b2Jb",
    "another direction": "a\u202egnp.exe\u202cb",
    "a carriage return": "error\rok   ",
    "an emoji code": ":boom: x",
    "a lone surrogate": "a\udc80b",
}
"""Names by what they try."""

STYLE = re.compile(r"\r?\x1b\[[0-9;?]*[mhlKA]")
"""Commands that rich itself sends: colours, the cursor, erasing of its own line."""


def commands_in(output: str) -> list[str]:
    """Characters of an output that a terminal would obey, those of rich left out."""
    return [c for c in STYLE.sub("", output) if not (c.isprintable() or c in "\n\t" or c == "\u3000")]
