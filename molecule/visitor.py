"""A visitor of a site, for scenarios' tests: curl on a test host, with a cookie jar and the site's name resolved."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

import testinfra


@dataclass
class Visitor:
    """Asks a site by its name at a given address; certificates of tests are self-signed, so they are not verified."""

    host: testinfra.host.Host
    address: str
    domain: str
    name: str = "visitor"

    def __post_init__(self):
        self.jar = f"/tmp/{self.name}.cookies"
        self.host.check_output(f"rm -f {self.jar}")

    def curl(self, url: str, *options: str):
        """Run curl; `url` may be a path of the site."""
        if url.startswith("/"):
            url = f"https://{self.domain}{url}"
        words = [
            "curl",
            "--silent",
            "--show-error",
            "--insecure",
            "--max-time",
            "20",
            "--cookie",
            self.jar,
            "--cookie-jar",
            self.jar,
            "--connect-to",
            f"::{self.address}:",
            *options,
            url,
        ]
        return self.host.run(shlex.join(words))

    def page(self, url: str, *options: str) -> str:
        """The body of a page that answers without an error."""
        run = self.curl(url, "--fail", *options)
        assert run.rc == 0, f"{url}: {run.stderr}"
        return run.stdout

    def status(self, url: str, *options: str) -> int:
        return int(self.curl(url, "--output", "/dev/null", "--write-out", "%{http_code}", *options).stdout or 0)

    def headers(self, url: str, *options: str) -> dict[str, str]:
        lines = self.curl(url, "--dump-header", "-", "--output", "/dev/null", *options).stdout.splitlines()
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if value}

    def submit(self, url: str, *options: str) -> str:
        """Send a form with the token that its page shows; returns the page that the answer leads to."""
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.page(url))
        assert token, f"{url} shows no form"
        referer = f"https://{self.domain}{url}"
        return self.page(url, "--location", "--referer", referer, "--form", f"csrfmiddlewaretoken={token[1]}", *options)
