"""What is known of the checklist stands in one place: the checks, the gate, the report and the page all keep to it."""

from __future__ import annotations

import inspect
import pathlib
import re

from ansible_collections.vivarium.server.plugins.module_utils._asgi import checklist, headings
from ansible_collections.vivarium.server.plugins.plugin_utils.host_code import sources

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "roles/asgi/files/django"
PAGE = (ROOT / "docs/checklist.md").read_text()
OURS = {*headings.OF_DJANGO, *headings.OF_OTHERS, *headings.OF_BOTH}
OF_GATE = {headings.FELL_OVER, headings.UNKNOWN_WAIVER, headings.IDLE_WAIVER}


def said_in(name: str) -> set[str]:
    """The ids of the messages in a module of checks."""
    return {f"vivarium.{each}" for each in re.findall(r'"([EWI]\d{3})"', (LIBRARY / name).read_text())}


def table(heading: str) -> list[list[str]]:
    """The rows of the table below a heading of the page."""
    part = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("|")]
    return rows[2:]


def test_each_module_says_the_ids_that_are_known_to_be_its_own():
    of_django, of_others, of_both = map(said_in, ("vivarium_checks.py", "vivarium_plain_checks.py", "vivarium_code.py"))
    assert (of_django | of_both) == {*headings.OF_DJANGO, *headings.OF_BOTH}
    assert (of_others | of_both) == {*headings.OF_OTHERS, *headings.OF_BOTH}
    assert not OURS & OF_GATE and len(OURS) == sum(map(len, (headings.OF_DJANGO, headings.OF_OTHERS, headings.OF_BOTH)))
    # Two checks never share a number.
    assert len({each[-3:] for each in OURS | OF_GATE}) == len(OURS | OF_GATE)


def test_a_check_belongs_to_one_heading_at_most():
    belonging = [each for _title, _method, ids in headings.HEADINGS for each in ids]
    assert len(belonging) == len(set(belonging))
    assert {each for each in belonging if each.startswith("vivarium.")} <= OURS
    assert {*headings.CRITICAL, *headings.STANDING_WAIVERS} <= set(belonging)


def test_a_waiver_that_covers_what_the_report_sees_belongs_to_the_heading():
    methods = {method: ids for _title, method, ids in headings.HEADINGS}
    for method, ids in methods.items():
        named = set(
            re.findall(r'"((?:vivarium|security)\.[EWI]\d{3})"', inspect.getsource(getattr(checklist._Report, method)))
        )
        assert named - {"vivarium.I005"} <= set(ids), method
    assert set(headings.PLAIN) <= {title for title, _method, _ids in headings.HEADINGS}


def test_the_report_has_its_own_copy_and_the_release_the_same():
    name = "plugins.module_utils._asgi.headings"
    (sent,) = [text for key, text in sources("plugins.module_utils._asgi.checklist").items() if key.endswith(name)]
    assert sent == (LIBRARY / "vivarium_headings.py").read_text()
    # In a release there is no collection to import from.
    assert "ansible" not in re.sub(r"#.*|\"\"\".*?\"\"\"", "", sent, flags=re.DOTALL)


def test_the_page_has_the_headings_in_their_order():
    assert [row[0] for row in table("The headings")] == [title for title, _method, _ids in headings.HEADINGS]


def test_every_check_is_documented_by_its_number():
    documented = [row[0].strip("`") for row in table("The checks that Django does not make")]
    assert set(documented) == OURS | OF_GATE
    assert documented == sorted(documented, key=lambda each: each[-3:])


def test_the_page_and_the_checks_name_the_same_chapters_of_djangos_documentation():
    linked = {
        each
        for row in table("The checks that Django does not make")
        for each in re.findall(r"/en/stable/([^)]*)", row[2])
    }
    said = set(re.findall(r'"((?:howto|ref|topics)/[^"]*)"', (LIBRARY / "vivarium_checks.py").read_text()))
    # Made of the setting's name there.
    assert linked - {"ref/settings/#server-email"} <= said
