"""What one question tells of a host."""

from __future__ import annotations

import ipaddress

import pytest
from ansible_collections.vivarium.server.plugins.module_utils._host.facts import (
    default_address,
    distribution,
    installed,
    lasting_services,
)

STATUS = """\
Package: nginx
Status: install ok installed
Priority: optional
Conffiles:
 /etc/nginx/nginx.conf 0123

Package: gone
Status: deinstall ok config-files
Priority: optional

Package: held
Priority: optional
Status: hold ok installed

Package: half
Status: install ok half-configured

Package: libc6
Status: install ok installed
Description: the last one has no line after it
"""


def test_a_package_counts_only_when_it_is_installed_whole():
    assert installed(STATUS) == ["held", "libc6", "nginx"]
    assert installed("") == []


@pytest.mark.parametrize(
    ("release", "name", "major"),
    [
        ({"ID": "debian", "VERSION_ID": "13"}, "Debian", "13"),
        ({"ID": "ubuntu", "VERSION_ID": "24.04"}, "Ubuntu", "24"),
        ({"ID": "debian"}, "Debian", "NA"),
        ({}, "Unknown", "NA"),
    ],
)
def test_a_distribution_goes_by_the_names_that_setup_gives_it(release, name, major):
    assert distribution(release) == {"distribution": name, "distribution_major_version": major}


def test_a_service_must_run_and_come_back_at_boot():
    running = "nginx.service loaded active running A server\npostgresql@17-main.service loaded active running B\n"
    assert lasting_services(running, {"nginx.service", "cron.service"}) == ["nginx.service"]
    assert lasting_services("", {"nginx.service"}) == []


def test_the_default_address_is_one_or_nothing():
    for fact in default_address().values():
        ipaddress.ip_address(fact["address"])
