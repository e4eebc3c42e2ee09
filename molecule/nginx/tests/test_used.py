"""A host whose nginx somebody else has set up: what it serves goes on, or its loss is told before. These tests come last."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

SCENARIO = Path(__file__).resolve().parent.parent
HTTPS = {"debian12": 443, "debian13": 8443}

# As Debian installs it, whatever was there before.
FRESH = r"""
export DEBIAN_FRONTEND=noninteractive
apt-get -qq purge -y nginx nginx-common >/dev/null 2>&1
rm -rf /etc/nginx /etc/systemd/system/nginx.service.d /usr/local/lib/vivarium/nginx-reload /run/vivarium-nginx /home/blog
systemctl daemon-reload
apt-get -qq install -y nginx >/dev/null 2>&1
systemctl is-active --quiet nginx
"""
# As a person sets it up by hand. %s is more for the http block and more for the site.
USED = r"""
mkdir -p /home/blog/www && echo 'a page of the blog' > /home/blog/www/index.html
sed -i 's/worker_connections .*/worker_connections 999; # words-of-the-file/' /etc/nginx/nginx.conf
sed -i 's/^http {/&\n    include vhosts\/*;/' /etc/nginx/nginx.conf
echo 'limit_req_zone $binary_remote_addr zone=blog:1m rate=100r/s;' > /etc/nginx/conf.d/limits.conf
mkdir /etc/nginx/vhosts
echo 'server { listen 8181; server_name old.test; return 204; }' > /etc/nginx/vhosts/old
cat > /etc/nginx/sites-available/blog <<'END'
server { listen 80; server_name blog.test; root /home/blog/www; limit_req zone=blog burst=100; }
END
ln -s ../sites-available/blog /etc/nginx/sites-enabled/blog
systemctl reload nginx
"""
BESIDE = ["/etc/nginx/conf.d/limits.conf", "/etc/nginx/sites-enabled/blog"]


class Host:
    """A host under test and plays on it."""

    def __init__(self, name, host):
        self.name, self.run, self.check_output = name, host.run, host.check_output

    def play(self, *options, **variables):
        command = [
            "ansible-playbook",
            "--inventory",
            os.environ["MOLECULE_INVENTORY_FILE"],
            "--limit",
            self.name,
            *options,
        ]
        done = subprocess.run(
            [*command, "--extra-vars", json.dumps(variables), str(SCENARIO / "converge.yml")],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        return done.returncode, " ".join(done.stdout.replace("\\n", " ").split())

    def page(self, url):
        """What a visitor gets; old workers may answer for a moment after a reload."""
        port = url.split("/")[2].partition(":")[2] or "80"
        domain = url.split("/")[2].partition(":")[0]
        return self.run(
            "sleep 0.5; curl --silent --insecure --max-time 10 --write-out ' %%{http_code}' --resolve %s:%s:127.0.0.1 %s",
            domain, port, url,
        ).stdout  # fmt: skip

    def shop(self):
        return self.page(f"https://shop.test:{HTTPS[self.name]}/").rpartition(" ")[2]

    def blog(self):
        return self.page("http://blog.test/").split("\n")

    def state(self):
        """Everything that a run could have written, and what runs; not the module of a package that it installed."""
        return self.check_output(
            "find /etc/nginx /etc/systemd/system/nginx.service.d /usr/local/lib/vivarium/nginx-reload -printf '%p %m %u %l\\n'"
            " 2>/dev/null | grep -v mod-http-brotli | sort; find /etc/nginx -type f -print0 | sort -z | xargs -0 sha256sum;"
            " systemctl show --property MainPID nginx"
        )


@pytest.fixture
def target(request, host):
    return Host(request.node.callspec.params["host"], host)


@pytest.fixture
def used(target):
    target.check_output(FRESH + USED)
    assert target.blog() == ["a page of the blog", " 200"]
    return target


def test_a_fresh_nginx_of_debians_is_nobodys(target):
    target.check_output(FRESH)
    code, said = target.play()
    assert code == 0, said
    assert target.shop() == "200"
    assert target.run("ls /etc/nginx/nginx.conf.before").rc != 0


def test_what_would_be_lost_is_named_and_nothing_is_written(used):
    before = used.state()
    for options in (["--check", "--diff"], []):
        code, said = used.play(*options)
        assert code != 0
        for path in ("nginx.conf", "conf.d/limits.conf", "sites-enabled/blog", "vhosts/old"):
            assert re.search(rf"would lose: [^:]*/etc/nginx/{path}[,.]", said), said
        # Names, no words of the files, and nothing that is Debian's.
        assert "words-of-the-file" not in said and "mime.types" not in said and "sites-enabled/default" not in said
        assert "nginx_take_over" in said and "nginx_include" in said
        assert used.state() == before
        assert used.blog() == ["a page of the blog", " 200"]


@pytest.mark.on("debian13")
def test_a_default_site_that_somebody_filled_is_not_lost_silently(target):
    target.check_output(
        FRESH + "sed -i 's/server_name _;/&\\n return 203;/' /etc/nginx/sites-available/default; nginx -s reload"
    )
    before = target.state()
    code, said = target.play()
    assert code != 0
    assert "would lose: /etc/nginx/sites-enabled/default." in said, said
    assert target.state() == before
    assert target.page("http://anything.test/").endswith(" 203")
    # Where nothing is lost, nobody is asked.
    code, said = target.play(nginx_include=["/etc/nginx/sites-enabled/default"])
    assert code == 0, said
    assert target.shop() == "200" and target.page("http://anything.test/").endswith(" 203")
    target.check_output("test -f /etc/nginx/nginx.conf.before")


def test_what_is_included_goes_on_beside_the_sites(used):
    """Also from where the sandbox of a host with the role's sites alone sees nothing, and after a restart."""
    original = used.check_output("sha256sum < /etc/nginx/nginx.conf")
    code, said = used.play(nginx_include=BESIDE)
    assert code != 0 and "would lose: /etc/nginx/nginx.conf, /etc/nginx/vhosts/old." in said, said
    code, said = used.play(nginx_include=BESIDE, nginx_take_over=True)
    assert code == 0, said
    for _ in range(2):
        assert used.shop() == "200"
        assert used.blog() == ["a page of the blog", " 200"]
        used.check_output("systemctl restart nginx")
    assert used.check_output("sha256sum < /etc/nginx/nginx.conf.before") == original
    assert used.page("http://old.test:8181/").endswith(" 000")
    # From then on nothing is to be taken over, and the copy is the one of before.
    code, said = used.play(nginx_include=BESIDE)
    assert code == 0 and re.search(r"changed=0\b", said), said
    code, said = used.play(nginx_include=BESIDE[:1], nginx_take_over=True)
    assert code == 0, said
    assert used.check_output("sha256sum < /etc/nginx/nginx.conf.before") == original
    assert used.page("http://blog.test/") == " 000"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("s/listen 80;/listen PORT default_server;/", "duplicate default server"),
        ("s/server_name blog.test;/& access_log \\/srv\\/blog.log;/", "/srv/blog.log"),
    ],
    ids=["refused", "not-in-the-sandbox"],
)
def test_what_nginx_does_not_take_leaves_everything_as_it_was(used, change, complaint):
    change = change.replace("PORT", "8080" if used.name == "debian13" else "80")
    used.check_output(
        f"rm /etc/nginx/sites-enabled/default; sed -i '{change}' /etc/nginx/sites-available/blog; systemctl reload nginx"
    )
    before = used.state()
    code, said = used.play(nginx_include=BESIDE, nginx_take_over=True)
    assert code != 0 and complaint in said, said
    assert used.state() == before
    port = 8080 if "listen" in change and used.name == "debian13" else 80
    assert used.page(f"http://blog.test:{port}/").split("\n") == ["a page of the blog", " 200"]


@pytest.mark.on("debian12")
def test_the_way_back(used):
    """As docs/adopt.md says."""
    code, said = used.play(nginx_take_over=True)
    assert code == 0, said
    assert used.shop() == "200" and "blog" not in used.page("http://blog.test/")
    assert used.check_output("cat /etc/nginx/sites-available/blog")
    used.check_output(
        "mv /etc/nginx/nginx.conf.before /etc/nginx/nginx.conf && rm /etc/systemd/system/nginx.service.d/vivarium.conf"
        " && systemctl daemon-reload && nginx -t && systemctl restart nginx"
    )
    assert used.blog() == ["a page of the blog", " 200"]
    code, said = used.play()
    assert code != 0 and "/etc/nginx/sites-enabled/blog, /etc/nginx/vhosts/old. Nothing of nginx was changed" in said
