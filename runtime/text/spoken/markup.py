"""What is written for the eye alone: markdown, HTML, LaTeX, emoji, tokens of control."""

from __future__ import annotations

import html
import re

__all__ = ["without_markup"]

_TAGS = (
    "b|i|u|s|p|em|strong|br|hr|div|span|a|code|pre|sub|sup|h[1-6]|ul|ol|li|table|thead|tbody|tr|td|th|img|small|"
    "mark|del|ins|kbd"
)
_EMOJI = (
    "\U0001f000-\U0001faff\U0001fb00-\U0001fbff\u2600-\u26ff\u2700-\u27bf\u2b00-\u2bff\u231a-\u23ff\ufe0f\ufe0e\u200d"
    "\u20e3\U000e0020-\U000e007f\u25a0-\u25ff\u2500-\u257f\u2022\u2023\u2043"
)
_STEPS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"☞|☟|☜|<unk>|<\|[a-z_]+\|>", ""),
        (r"\n[ \t]*(?:```|~~~)[\w+#.-]*[ \t]*(?=\n|\Z)|```(?:[a-z+#]+(?=\n))?", "\n"),
        (r"\n[ \t]*\|?[ \t]*:?-{3,}:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*(?=\n|\Z)", "\n"),
        (r"\n[ \t]*(?:\*[ \t]*){3,}(?=\n|\Z)|\n[ \t]*(?:_[ \t]*){3,}(?=\n|\Z)|\n=+[ \t]*(?=\n|\Z)", "\n"),
        (r"\n[ \t]*(?:>[ \t]?)+", "\n"),
        (r"\n[ \t]*#{1,6}[ \t]+", "\n"),
        (r"\n[ \t]*[-*+•][ \t]+(?:\[[ xX]\][ \t]+)?", "\n"),
        (r"\n[ \t]*([0-9]{1,3})[.)][ \t]+", r"\n\1, "),
        (r"!?\[([^\[\]]*)\]\([^()\s]*(?:\([^()]*\)[^()\s]*)*(?:\s\"[^\"]*\")?\)", r"\1"),
        (r"\]\((?:https?:|/|#|\w+\.)[^()\s]*\)", " "),
        (rf"</?(?:{_TAGS})(?:\s+[\w-]+=(?:\"[^\"]*\"|'[^']*'))*\s*/?>", " "),
        (r"<((?:https?://|mailto:)[^<>\s]+)>", r"\1"),
        (r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"\1 over \2"),
        (r"\\sqrt\{([^{}]*)\}", r"√\1"),
        (r"\\(?:text|mathrm|mathbf|left|right|,|;|!|quad)\b", " "),
        (r"\\times\b|\\cdot\b", "×"),
        (r"\\[()\[\]{}]", " "),
        (r"\$(?=[^$\s\d][^$]*\$)", " "),
        (r"(?<=[\w)}])\$(?![\w])", " "),
        (r"\\([*_#`~>|!.+-])", r"\1"),
        (r"\*\*|__(?=\w)|(?<=\w)__|~~|`", ""),
        (r"(?<![\w*])\*+(?=[^\s*])|(?<=[^\s*])\*+(?![\w*])", ""),
        (r"(?<![A-Za-z0-9])_+(?=\w)|(?<=\w)_+(?![A-Za-z0-9])", ""),
        (r"\|\|", " or "),
        (r"\|", ", "),
        (r"(?<!\w)[:;]-?[()DPp](?!\w)", " "),
        (rf"[0-9#*]\ufe0f\u20e3|[{_EMOJI}]+", " "),
        (r"[™®©]", " "),
    )
)
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|nbsp|apos|#[0-9]{1,6});?")


def without_markup(text: str, line_start: bool) -> str:
    """``text`` without marks that nobody reads out.

    Args:
        line_start: it begins a line, so that ``# `` is a heading and ``- `` an item.
    """
    text = _ENTITY.sub(lambda match: html.unescape(match.group()), text)
    text = "\n" + text if line_start else text
    for pattern, replacement in _STEPS:
        text = pattern.sub(replacement, text)
    return text.removeprefix("\n") if line_start else text
