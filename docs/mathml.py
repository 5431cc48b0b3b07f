"""A hook of mkdocs: LaTeX, which arithmatex has marked, becomes MathML when a page is built."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
_DISPLAY = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    content = _DISPLAY.sub(lambda m: convert(html.unescape(m[1]).strip(), display="block"), content)
    return _INLINE.sub(lambda m: convert(html.unescape(m[1]).strip()), content)
