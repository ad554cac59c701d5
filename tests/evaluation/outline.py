"""What tests ask of a page: is it whole in itself, what are its headings, and what does a reader see?"""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

from carina.evaluation.report import NOTICE


class Outline(HTMLParser):
    """Checks nesting, and collects what tests ask for."""

    void = frozenset({"meta", "img", "link", "br", "rect"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.headings: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def check_whole(page: str) -> Outline:
    """Nothing is loaded from elsewhere, tags are closed in order, pictures are said in words."""
    outline = Outline(page)
    assert outline.open == []
    assert all(image["alt"] for image in outline.images)
    bare = re.sub(r"data:[^\"]+", "", page)
    assert "http" not in bare
    assert "<script" not in bare
    assert not re.search(r"\bnan\b|\binf\b|None", bare)
    assert NOTICE in page
    return outline


def text_of(page: str) -> str:
    """What a reader sees: no tags, no pictures, single blanks."""
    return " ".join(html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)).split())
