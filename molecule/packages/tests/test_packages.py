"""What a visitor sees of three applications that come from PyPI as they are, through nginx over TLS."""

from __future__ import annotations

import json
import re
import time
from urllib.parse import quote, urljoin

import pytest
from visitor import Visitor

APPLICATIONS = ("birds", "index", "records")


@pytest.fixture
def visit(host):
    return lambda name: Visitor(host, "127.0.0.1", f"{name}.example.test", name)


def assets(page, url):
    """What a browser loads with a page: its style sheets and scripts."""
    tags = re.findall(r"<link[^>]*stylesheet[^>]*>|<script[^>]*src=[^>]*>", page)
    found = [urljoin(url, re.search(r'(?:href|src)="([^"]+)"', tag)[1]) for tag in tags]
    assert found, f"{url} has no style sheet"
    return found


def check_assets(visitor, page):
    for path in assets(visitor.page(page), page):
        run = visitor.curl(path, "--fail", "--write-out", "\n%{content_type}")
        body, _, kind = run.stdout.rpartition("\n")
        assert run.rc == 0 and len(body) > 100, f"{path}: {run.stderr}"
        assert "css" in kind or "javascript" in kind, f"{path} is {kind}"


def service(host, name):
    live = host.check_output(f"basename $(readlink /srv/{name}/live)")
    return f"{name}@{live}.service"


@pytest.mark.parametrize("name", APPLICATIONS)
def test_each_is_what_its_package_holds_and_nothing_else(host, name):
    code = host.check_output(f"find /srv/{name}/live/code -type f").split()
    assert code == []


@pytest.mark.parametrize("name", APPLICATIONS)
def test_each_runs_in_the_whole_sandbox(host, name):
    unit = service(host, name)
    output = host.check_output(f"systemd-analyze security --no-pager {unit}")
    assert float(re.search(r"exposure level for \S+: ([0-9.]+)", output)[1]) <= 1.3, output
    pid = host.check_output(f"systemctl show --property=MainPID --value {unit}")
    status = dict(line.split(":\t", 1) for line in host.file(f"/proc/{pid}/status").content_string.splitlines())
    assert (status["NoNewPrivs"], status["Seccomp"], int(status["CapBnd"], 16)) == ("1", "2", 0)
    # The same surroundings, tried out.
    inside = f"/usr/local/lib/asgi/{name}-run live -- sh -c"
    assert host.run(f"{inside} 'touch ~/.attempt && rm ~/.attempt'").succeeded
    others = " ".join(f"/var/lib/asgi-{other}" for other in APPLICATIONS if other != name)
    places = f"/srv/{name}/live/code /srv/{name}/live/venv /etc /home /var/cache {others}"
    written = host.check_output(
        f"{inside} %s", f"for place in {places}; do touch $place/.attempt 2>/dev/null && echo $place; done; true"
    )
    assert written == ""


@pytest.mark.parametrize("name", APPLICATIONS)
def test_a_server_that_is_killed_comes_back(host, visit, name):
    unit = service(host, name)
    host.check_output(f"systemctl kill --kill-whom=main --signal=KILL {unit}")
    path = "/simple/" if name == "index" else "/"
    deadline = time.monotonic() + 90
    while visit(name).status(path) != 200:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_datasette_answers_a_query_on_its_database(visit):
    sql = quote("select name from birds where wingspan > 100 order by name")
    rows = json.loads(visit("birds").page(f"/birds.json?sql={sql}&_shape=arrayfirst"))
    assert rows == ["heron", "stork"]


def test_datasettes_pages_come_with_their_files(visit):
    assert "wingspan" in visit("birds").page("/birds/birds")
    check_assets(visit("birds"), "/birds/birds")


def test_datasette_names_itself_with_https(visit):
    """Its links are whole addresses: they lead back to the site only if it knows the visitor's scheme and name."""
    link = re.search(r'href="([^"]+/birds/birds\.json)"', visit("birds").page("/birds/birds"))[1]
    assert link == "https://birds.example.test/birds/birds.json"


def test_datasettes_cookies_are_valid_in_every_worker(host, visit):
    """Signed with the secret that the call takes from the environment."""
    script = (
        "from itsdangerous import URLSafeSerializer as S; import os;"
        "print(S(os.environ['BIRDS_SECRET'], 'actor').dumps({'a': {'id': 'ada'}}))"
    )
    cookie = host.check_output("/usr/local/lib/asgi/birds-run live -- python -c %s", script)
    actors = [visit("birds").page("/-/actor.json", "--header", f"Cookie: ds_actor={cookie}") for _ in range(10)]
    assert {json.loads(actor)["actor"]["id"] for actor in actors} == {"ada"}


def test_the_index_hands_out_a_package(host, visit):
    """Its routes exist only once its lifespan has begun."""
    name = "nest-1.0-py3-none-any.whl"
    wheel = f"/var/lib/asgi-index/nest/{name}"
    script = (
        "import os, sys, zipfile\nos.makedirs(os.path.dirname(sys.argv[1]), exist_ok=True)\n"
        "with zipfile.ZipFile(sys.argv[1], 'w') as z:\n"
        "    z.writestr('nest.py', '')\n"
        "    z.writestr('nest-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: nest\\nVersion: 1.0\\n')\n"
        "    z.writestr('nest-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n"
        "    z.writestr('nest-1.0.dist-info/RECORD', '')\n"
    )
    host.check_output("runuser -u index -- python3 -c %s %s", script, wheel)
    visitor = visit("index")
    assert ">nest</a>" in visitor.page("/simple/")
    link = re.search(rf'href="([^"#]+/{name})', visitor.page("/simple/nest/"))[1]
    visitor.page(urljoin("/simple/nest/", link), "--location", "--output", f"/tmp/{name}")
    assert host.run(f"cmp /tmp/{name} {wheel}").succeeded


PHRASE = "a long enough phrase 42"


def sign_in(visitor, user):
    form = {"username": user, "password": PHRASE, "next": "/admin/"}
    words = (word for name, value in form.items() for word in ("--form", f"{name}={value}"))
    return visitor.submit("/admin/login/", *words)


def test_one_signs_in_to_the_django_one_over_https(host, visit):
    """Django compares the form's origin with the address it was asked by: without the right scheme it refuses (CSRF)."""
    user = f"ada{time.time():.0f}"
    make = (
        f"from django.contrib.auth.models import User as U; U.objects.create_superuser('{user}', password='{PHRASE}')"
    )
    host.check_output("records-manage shell --command %s", make)
    page = sign_in(visit("records"), user)
    assert "Log out" in page and user in page


def test_without_the_forms_token_nobody_signs_in(visit):
    assert visit("records").status("/admin/login/", "--form", "username=ada", "--form", "password=x") == 403


def test_the_django_ones_pages_come_with_their_files(host, visit):
    check_assets(visit("records"), "/")
    check_assets(visit("records"), "/admin/login/")
    # Handed out by nginx, from where the release was collected to.
    places = [f"{place}/css/ara.css" for place in ("/srv/records/live/public", "/srv/records/static")]
    for place in places:
        host.check_output("mv %s %s.away", place, place)
    found = visit("records").status("/static/css/ara.css")
    for place in places:
        host.check_output("mv %s.away %s", place, place)
    assert found == 404
    assert visit("records").status("/static/css/ara.css") == 200


def test_what_is_recorded_is_shown(visit):
    record = {
        "started": "2026-01-01T00:00:00Z",
        "status": "completed",
        "path": "/home/ada/site.yml",
        "ansible_version": "2.19",
    }
    visitor = visit("records")
    answer = json.loads(visitor.page("/api/v1/playbooks", "--json", json.dumps(record)))
    assert answer["path"] == "/home/ada/site.yml"
    assert "/home/ada/site.yml" in visitor.page("/")


def test_the_secrets_are_in_no_file_of_theirs(host):
    places = "/srv /var/lib/asgi-birds /var/lib/asgi-records /etc /run"
    found = host.run(f"grep -rlI nobody-signs-anything {places}").stdout.split()
    assert len(found) >= 2 and all(re.fullmatch(r"/srv/(birds|records)/releases/[^/]+/env", path) for path in found), (
        found
    )
