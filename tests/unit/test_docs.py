"""The pages for users: what they quote is said by the code, what they point at is there, and the README names each of them."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
OTHER_PAGES = [ROOT / "README.md", ROOT / "plugins/README.md", *sorted((ROOT / "roles").glob("*/README.md"))]
ANY = "\N{HORIZONTAL ELLIPSIS}"
LINK = re.compile(r"(?<!!)\[[^]]*\]\(([^)\s]+)\)")
# Code, in which brackets are no links.
CODE = re.compile(r"^( {4}[^\n]*|```.*?^```)$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def quoted_messages():
    """The messages of the page, which stand as quotations, an ellipsis for what changes from case to case."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    return [
        " ".join(block.replace("\n>", "\n").lstrip("> ").split()) for block in re.findall(r"(?m)^>.*(?:\n>.*)*", text)
    ]


@functools.cache
def said():
    """Every text of the code, on one line each; in an f-string, something stands for what is put into it."""
    texts = []
    for path in [*(ROOT / "plugins").rglob("*.py"), *(ROOT / "roles").glob("*/files/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value.replace("{name}", "{}"))
    for path in [*(ROOT / "roles").rglob("*.yml"), *(ROOT / "playbooks").rglob("*.yml")]:
        texts.append(re.sub(r"\{\{.*?\}\}", "{}", path.read_text(), flags=re.DOTALL))
    return "\n".join(" ".join(text.split()) for text in texts)


@pytest.mark.parametrize("message", quoted_messages())
def test_a_quoted_message_is_one_of_ours(message):
    parts = [re.escape(part.strip()) for part in message.split(ANY) if part.strip(" :.,()")]
    assert parts, message
    assert re.search(".{0,300}?".join(parts), said()), f"no plugin, role or playbook says: {message}"


def test_the_page_has_the_messages_that_a_user_meets():
    assert len(quoted_messages()) >= 20


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?ms)^```.*?^```$", "", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_leads_somewhere(page):
    for target in LINK.findall(CODE.sub("", page.read_text())):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


def test_the_readme_names_every_page():
    targets = set(LINK.findall((ROOT / "README.md").read_text()))
    missing = {f"docs/{page.name}" for page in PAGES} - {target.partition("#")[0] for target in targets}
    assert not missing
