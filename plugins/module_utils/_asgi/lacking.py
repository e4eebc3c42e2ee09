# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a build said that it lacks, and the input that brings it."""

from __future__ import annotations

import re

# Of an output, the end is looked at (characters).
END = 256 * 1024
# What the role python installs if nobody says otherwise: an input that adds to it names it too.
DEFAULT = ("build-essential", "pkg-config", "python3-dev")
COMPILER = "build-essential"
# Debian's packages by the program that they bring.
PROGRAMS = {
    **dict.fromkeys(("gcc", "g++", "cc", "c++", "make", "gmake", "ld"), COMPILER),
    **dict.fromkeys(("pkg-config", "pkgconf"), "pkg-config"),
    **dict.fromkeys(("msgfmt", "msgmerge", "msguniq", "xgettext"), "gettext"),
    **dict.fromkeys(("cargo", "rustc"), "cargo"),
    **{name: name for name in ("cmake", "curl", "gfortran", "git", "npm", "rsync", "swig", "unzip")},
    "curl-config": "libcurl4-openssl-dev",
    "gdal-config": "libgdal-dev",
    "geos-config": "libgeos-dev",
    "krb5-config": "libkrb5-dev",
    "mysql_config": "default-libmysqlclient-dev",
    "node": "nodejs",
    "npx": "npm",
    "pg_config": "libpq-dev",
    "xml2-config": "libxml2-dev",
    "xslt-config": "libxslt1-dev",
}
# The same by a header file, by its directory where it has one, or by the name of a library for the linker and pkg-config.
LIBRARIES = {
    "Python.h": "python3-dev",
    "bzlib.h": "libbz2-dev",
    "cairo": "libcairo2-dev",
    "cairo.h": "libcairo2-dev",
    "curl": "libcurl4-openssl-dev",
    "ffi": "libffi-dev",
    "ffi.h": "libffi-dev",
    "gdal": "libgdal-dev",
    "gmp": "libgmp-dev",
    "gmp.h": "libgmp-dev",
    "gssapi": "libkrb5-dev",
    "jpeg": "libjpeg-dev",
    "jpeglib.h": "libjpeg-dev",
    "lber.h": "libldap-dev",
    "ldap": "libldap-dev",
    "ldap.h": "libldap-dev",
    "libffi": "libffi-dev",
    "libpq": "libpq-dev",
    "libpq-fe.h": "libpq-dev",
    "libxml": "libxml2-dev",
    "libxml-2.0": "libxml2-dev",
    "libxslt": "libxslt1-dev",
    "lzma.h": "liblzma-dev",
    "mysql.h": "default-libmysqlclient-dev",
    "openssl": "libssl-dev",
    "pq": "libpq-dev",
    "sasl": "libsasl2-dev",
    "sql.h": "unixodbc-dev",
    "sqlite3.h": "libsqlite3-dev",
    "xml2": "libxml2-dev",
    "xmlsec1": "libxmlsec1-dev",
    "xslt": "libxslt1-dev",
    "yaml.h": "libyaml-dev",
    "z": "zlib1g-dev",
    "zlib": "zlib1g-dev",
    "zlib.h": "zlib1g-dev",
}
WORD = r"([A-Za-z0-9_](?:[\w.+-]{0,60}[\w+])?)"
# How programs say that there is no other one.
NO_PROGRAM = re.compile(
    rf"No such file or directory: '(?:[a-z0-9_]+-linux-gnu-)?{WORD}'"
    rf"|\b{WORD}: (?:command )?not found"
    rf"|\benv: [\u2018']{WORD}[\u2019']: No such file"
    rf"|(?:command|linker) [`']{WORD}[`'] (?:failed: No such file|not found)"
    rf"|\b{WORD} executable not found"
    rf"|(?:find a|did not find|can't find|unable to execute) '?{WORD}",
    re.IGNORECASE,
)
# The words of those that do not name the program as it is called.
IN_OTHER_WORDS = {
    "need a C compiler": "cc",
    "Unknown compiler(s)": "cc",
    "No working compiler found": "cc",
    "Pkg-config not found": "pkg-config",
    "the Rust package manager, is not installed": "cargo",
    "Can not find valid pkg-config name": "mysql_config",
}
NO_LIBRARY = re.compile(
    r"fatal error: ([\w+-][\w.+-]{0,60})(?:/[\w./+-]{1,200})?: No such file"
    rf"|cannot find -l{WORD}"
    rf"|(?:No package|Package|Dependency) ['\"]{WORD}['\"](?:, required by '[^'\n]{{0,80}}',)? (?:not )?found"
)
HEADER = re.compile(r"fatal error: ([\w+-][\w./+-]{0,200}): No such file")
# uv's words where an interpreter is of another version than the project, or a package of it, is for.
NO_PYTHON = re.compile(
    r"No interpreter found for [^\n]{0,80}?(?P<name>3\.[0-9]{1,2})"
    r"|incompatible with the project's Python requirement: `(?P<project>[<>=!~0-9.,* ]{1,80})`"
    r"|\(3\.[0-9.]{1,10}\) does not satisfy Python(?P<package>[<>=!~][<>=!~0-9.,*]{1,40})"
)
LEAST = re.compile(r"(?:>=|==|~=)\s{0,9}(3\.[0-9]{1,2})")
NO_ADVICE = ""
READ_ONLY = (
    "A build can write to the new release and keeps caches in a directory of its own, no other: leave UV_CACHE_DIR and the"
    " like out of asgi_build_environment."
)


def lacking(output: str) -> str:
    """A sentence on what a failed build lacks and how it comes to the host; empty where its output does not say."""
    output = output[-END:]
    if found := NO_PYTHON.search(output):
        return other_python(found)
    names = [name.lower() for match in NO_PROGRAM.findall(output) for name in match if name.lower() in PROGRAMS]
    names += [name for words, name in IN_OTHER_WORDS.items() if words in output]
    wanted = {name: PROGRAMS[name] for name in names}
    # pkg-config that is not there finds nothing, whatever is.
    if "pkg-config" not in wanted:
        libraries = [name for match in NO_LIBRARY.findall(output) for name in match if name]
        wanted |= {name: LIBRARIES[name] for name in libraries if name in LIBRARIES}
    else:
        wanted.pop("mysql_config", None)
    if wanted:
        packages = [*DEFAULT, *sorted(set(wanted.values()) - set(DEFAULT))]
        return (
            f"The host lacks {' and '.join(sorted(wanted))}. What brings that: python_packages: [{', '.join(packages)}],"
            " with what your list has already."
        )
    if header := HEADER.search(output):
        return (
            f"The host lacks {header[1]}. Add the Debian package that holds this file, a library's with -dev at its end, to"
            " python_packages."
        )
    return READ_ONLY if "Read-only file system" in output else NO_ADVICE


def other_python(found: re.Match[str]) -> str:
    """What to do for an interpreter of another version than the host's own."""
    said = found["name"] or found["project"] or found["package"]
    least = LEAST.search(said)
    version = found["name"] or (least[1] if least else None)
    if not version:
        return (
            f"The project is for Python {said}. Name such a version in python_versions, which brings it to the host, and as"
            " `python` of the application (python3.12, say)."
        )
    return (
        f'It needs Python {version}, which the host lacks or the application is not told to use. python_versions: ["{version}"]'
        f" brings it to the host, and python: python{version} of the application chooses it."
    )
