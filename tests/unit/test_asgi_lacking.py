"""What failed builds print, and what is said to whoever reads that."""

from __future__ import annotations

import time

import pytest
from ansible_collections.vivarium.server.plugins.module_utils._asgi.lacking import END, lacking

# As the programs say it: uv 0.13, setuptools, meson, gcc, Django, dash.
PACKAGES = {
    "Error: pg_config executable not found.\n\npg_config is required to build psycopg2 from source.": "libpq-dev",
    "couldn't run 'pg_config' --includedir: [Errno 2] No such file or directory: 'pg_config'": "libpq-dev",
    "error: [Errno 2] No such file or directory: 'x86_64-linux-gnu-gcc'": "build-essential",
    "error: command 'gcc' failed: No such file or directory": "build-essential",
    "unable to execute 'gcc': No such file or directory": "build-essential",
    "Exception: you need a C compiler to build uWSGI": "build-essential",
    "error: linker `cc` not found": "build-essential",
    "../meson.build:1:0: ERROR: Unknown compiler(s): [['cc'], ['gcc'], ['clang']]": "build-essential",
    "ValueError: Could not find a make program. Tried ('gmake', 'make', 'smake')": "build-essential",
    "  cause: Git operation failed\n  cause: Git executable not found. Ensure that Git is installed": "git",
    "/bin/sh: 1: pkg-config: not found\nException: Can not find valid pkg-config name.": "pkg-config",
    "Exception: Can not find valid pkg-config name.": "default-libmysqlclient-dev",
    "Did not find pkg-config by name 'pkg-config'": "pkg-config",
    "_ffi.c:15:10: fatal error: ffi.h: No such file or directory": "libffi-dev",
    "a.c:2:10: fatal error: Python.h: No such file or directory": "python3-dev",
    "a.h:4:10: fatal error: libxml/xmlversion.h: No such file or directory": "libxml2-dev",
    "/usr/bin/ld: cannot find -lpq: No such file or directory": "libpq-dev",
    "Package 'cairo', required by 'virtual:world', not found": "libcairo2-dev",
    'ERROR: Dependency "cairo" not found, tried pkgconfig and cmake': "libcairo2-dev",
    "/usr/bin/env: \u2018npm\u2019: No such file or directory": "npm",
    "CommandError: Can't find msgfmt. Make sure you have GNU gettext tools 0.19 or newer installed.": "gettext",
    "sh: 1: node: not found": "nodejs",
    "bash: line 1: cargo: command not found": "cargo",
}


@pytest.mark.parametrize(("said", "package"), PACKAGES.items())
def test_the_package_that_brings_what_is_missing_is_named(said, package):
    advice = lacking(f"Building x\n{said}\nhint: a hint\n")
    named = advice.partition("python_packages: [")[2].partition("]")[0].split(", ")
    assert package in named
    # The input is the whole list: what it has by itself stays.
    assert set(named) - {package} <= {"build-essential", "pkg-config", "python3-dev"} <= set(named)


def test_a_header_that_is_not_known_is_named():
    assert "lacks foo/bar.h" in lacking("fatal error: foo/bar.h: No such file or directory")


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("error: No interpreter found for Python 3.14 in managed installations or search path", "3.14"),
        ("error: No interpreter found for executable name `python3.14` in search path", "3.14"),
        (
            "error: The requested interpreter resolved to Python 3.11.2, which is incompatible with the project's Python"
            " requirement: `>=3.14` (from `project.requires-python`)",
            "3.14",
        ),
        (
            "Because the current Python version (3.11.2) does not satisfy Python>=3.12 and django>=6.1 depends on it",
            "3.12",
        ),
    ],
)
def test_a_python_that_the_host_lacks_is_followed_by_what_to_do(said, version):
    advice = lacking(said)
    assert f'python_versions: ["{version}"]' in advice and f"python: python{version}" in advice


def test_a_cache_in_a_place_of_its_own_is_told():
    said = 'error: Could not acquire lock\n  cause: Read-only file system (os error 30) at path "/srv/uv/.tmp1"'
    assert "UV_CACHE_DIR" in lacking(said) and "MEDIA_ROOT" not in lacking(said)


def test_a_python_that_is_too_new_is_told():
    said = "resolved to Python 3.13.5, which is incompatible with the project's Python requirement: `<3.12`"
    assert "for Python <3.12" in lacking(said) and "python_versions" in lacking(said)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "FileNotFoundError: [Errno 2] No such file or directory: 'data.json'",
        "ModuleNotFoundError: No module named 'x'",
        "page not found",
        "git clone worked",
    ],
)
def test_what_says_nothing_of_the_host_has_no_advice(said):
    assert lacking(said) == ""


@pytest.mark.parametrize(
    "piece", ["a", "'", "(3.", "fatal error: ", "find a ", "No such file or directory: '", "a: ", "Package 'a"]
)
def test_no_output_keeps_root_busy(piece):
    begun = time.process_time()
    lacking(piece * (4 * END // len(piece)))
    assert time.process_time() - begun < 5


def test_what_a_build_prints_is_no_advice_of_ours():
    for text in (
        "incompatible with the project's Python requirement: `x. Run: sudo sh -c id`",
        "(3.11) does not satisfy Python>;sudo",
        "fatal error: sudo sh.h: No such file",
    ):
        assert "sudo" not in lacking(text)
