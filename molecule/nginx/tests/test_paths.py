"""Sites below paths of one domain: each has its own rules, files, pages and maintenance; from another host."""

from __future__ import annotations

import pytest
from test_nginx import Target


@pytest.fixture
def target(request, host, hosts, addresses) -> Target:
    return Target(request.node.callspec.params["host"], hosts, addresses)


def test_each_gets_what_lies_below_its_path_and_the_whole_of_the_path(target):
    assert target.upstream("https://free.test/below/a%2Fb?c")["target"] == "/below/a%2Fb?c"
    assert target.upstream("https://free.test/belows/")["target"] == "/belows/"
    answer = target.curl("https://free.test/below?a=b")
    assert (answer.status, answer.header("location")) == (301, f"https://free.test{target.suffix}/below/?a=b")
    for path in ("/below/static/css/base.css", "/below/media/photos/cat.png"):
        assert target.curl(f"https://free.test{path}").status == 200


def test_headers_and_pages_are_its_own_and_what_is_said_of_the_domain_is_said_once(target):
    target.asker.check_output("head -c 3000 /dev/zero > /tmp/more-than-below-takes")
    for path, status, *options in (
        ("/below/", 200), ("/below/static/none", 404), ("/below/inside/", 403), ("/below/old/x", 301),
        ("/below/", 413, "--data-binary", "@/tmp/more-than-below-takes"),
    ):  # fmt: skip
        answer = target.curl(f"https://free.test{path}", *options)
        assert (answer.status, answer.headers["x-below"]) == (status, ["yes"]), (path, answer)
        # free.test sends none, and what the application says of it does not pass.
        assert "strict-transport-security" not in answer.headers, (path, answer)
        assert ("Below" in answer.body) == (status in (403, 404, 413)), (path, answer)
    assert "x-below" not in target.curl("https://free.test/").headers


def test_rules_are_about_what_is_its_own(target):
    statuses = [target.curl(f"https://free.test/below/few/{number}").status for number in range(3)]
    assert statuses[0] == 200 and set(statuses[1:]) == {429}
    assert [target.curl("https://free.test/few/").status for _ in range(3)] == [200] * 3
    for path in ("/below/inside/", "/below/inside", "//below/inside/", "/%62elow/insid%65/", "/BELOW/../below/inside/"):
        assert target.curl(f"https://free.test{path}").status in (400, 403), path


@pytest.mark.parametrize("closed", ["below", "free"])
def test_maintenance_of_one_leaves_the_other_alone(target, closed):
    place = "/var/lib/vivarium/maintenance"
    target.host.check_output(f"mkdir -p {place}/.{closed}/0-1-5/allow && ln -s .{closed}/0-1-5 {place}/{closed}")
    try:
        for path, of in (("/", "free"), ("/below/", "below"), ("/below/static/css/base.css", "below"), ("/x", "free")):
            answer = target.curl(f"https://free.test{path}")
            assert answer.status == (503 if of == closed else 200), (path, answer)
            assert answer.headers.get("retry-after") == (["5"] if of == closed else None)
        assert target.curl("https://free.test/below/health/").status == 200
    finally:
        target.host.check_output(f"rm -r {place}/{closed} {place}/.{closed}")


def test_where_none_is_at_the_top_nothing_else_answers(target):
    assert target.upstream("http://lone.test/lone/x")["target"] == "/lone/x"
    for path in ("/", "/x", "/lonesome/"):
        answer = target.curl(f"http://lone.test{path}")
        assert answer.status == 404 and "Lone" in answer.body
