"""The pages that nginx shows by itself: one for each case, for every reader, and nothing that has to be fetched."""

from __future__ import annotations

import html.parser
import pathlib
import re

import pytest
import yaml
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.complete import nginx_site_files, nginx_sites
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.pages import (
    PAGES,
    SHOWN,
    open_path,
    pages,
    problems,
)
from nginx_forms import SITE

ROOT = pathlib.Path(__file__).resolve().parents[2]
TITLE = 'Shop & <b>Söhne</b> "x" {{ 7 * 7 }} \' %}'


class Reader(html.parser.HTMLParser):
    """What is in a page: elements with their attributes, and the text that people read."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.inside = [], {}, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag != "meta":
            self.inside.append(tag)

    def handle_endtag(self, tag):
        assert self.inside.pop() == tag

    def handle_data(self, data):
        if self.inside and data.strip():
            self.text.setdefault(self.inside[-1], []).append(data)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_and_needs_nothing_else(name):
    text = pages({"title": TITLE})[f"{name}.html"]
    page = Reader(text)
    assert page.inside == []
    assert text.startswith("<!doctype html>")
    assert page.elements[0] == ("html", {"lang": "en"})
    names = [tag for tag, _attributes in page.elements]
    assert names.count("main") == names.count("h1") == names.count("title") == 1
    assert not {"script", "link", "img", "iframe", "b"} & set(names)
    assert "url(" not in text and "@import" not in text and "//" not in text
    assert {attributes["href"] for tag, attributes in page.elements if tag == "a"} <= {"", "/"}
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.elements
    # The name is text, whatever is in it.
    assert TITLE in page.text["p"]
    assert page.text["title"] == [f"{page.text['h1'][0]} – {TITLE}"]
    assert f"Error {SHOWN.get(name, name)}" in page.text["p"]


def colors(text, dark):
    block = re.findall(r":root \{(.*?)\}", text, re.S)[dark]
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6})", block))


def luminance(color):
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    return sum(
        weight * (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4)
        for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True)
    )


@pytest.mark.parametrize("dark", [0, 1])
@pytest.mark.parametrize(
    ("front", "back"), [("text", "sheet"), ("quiet", "sheet"), ("accent", "sheet"), ("on", "accent")]
)
def test_everybody_can_read_it(dark, front, back):
    """WCAG 2.2, 1.4.3: 4.5 for text."""
    found = colors(pages({"title": "x"})["404.html"], dark)
    lighter, darker = sorted((luminance(found[front]), luminance(found[back])), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_nginx_shows_a_page_for_each_of_these():
    variables = yaml.safe_load((ROOT / "roles/nginx/vars/main.yml").read_text())
    assert {str(status) for status in variables["__nginx_page_statuses"]} == set(PAGES) - set(SHOWN)


def test_a_site_that_goes_takes_its_pages_and_its_maintenance_along():
    here = nginx_site_files(nginx_sites([SITE]), "/sites", "/pages", "/closed")
    gone = nginx_site_files([], "/sites", "/pages", "/closed", ["shop"])
    assert {entry["path"] for entry in here} | {"/closed/shop"} == {entry["path"] for entry in gone}
    assert {entry["state"] for entry in gone} == {"absent"}
    assert [entry["path"] for entry in here if "content" in entry] == [f"/pages/shop.{name}.html" for name in PAGES]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"title": ""}, "title must be a line of at most 200 characters"),
        ({"title": "a\nb"}, "title must be a line"),
        ({"title": "x" * 201}, "title must be a line"),
        ({"title": 7}, "title must be a line"),
        ({"pages": "pages"}, "pages: path 'pages' must be absolute"),
        ({"pages": "/home/shop/pages"}, "pages: path '/home/shop/pages' lies where the sandbox"),
    ],
)
def test_what_cannot_be(changes, problem):
    site = {"title": None, "pages": None}
    assert problems(site) == []
    assert any(problem in found for found in problems({**site, **changes}))


@pytest.mark.parametrize(
    ("health", "path"),
    [
        (None, None), ("/health/", "/health/"), ("/up?full=1", "/up"), ("/%75p", "/up"), ("/a%20b", None), ("/a%3Bb", None),
        (f"/{'x' * 200}", None),
    ],
)  # fmt: skip
def test_a_path_that_is_watched_stays_open_as_nginx_compares_it(health, path):
    assert open_path(health) == path
