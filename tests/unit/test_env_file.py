"""The filter env_file: what comes out of a shell is what went in; the systemd round trip is molecule/env_file's."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vivarium.server.plugins.filter.env_file import env_file
from hypothesis import example, given, settings
from hypothesis import strategies as st

PRINT = "import json, os, sys; json.dump({name: os.environ[name] for name in sys.argv[1:]}, sys.stdout)"
ALLOWED = st.text(
    st.one_of(
        st.sampled_from("\\\"$`'%#!;&|*~ \t\n="),
        st.characters(exclude_categories=["Cs"], min_codepoint=0x80, max_codepoint=0x10FFFF),
        st.characters(min_codepoint=0x20, max_codepoint=0x7E),
    )
)


def through_sh(tmp_path_factory, variables):
    """Source the file with sh and let another program say what it got."""
    path = tmp_path_factory.mktemp("env") / "shop.env"
    path.write_text(env_file(variables), encoding="utf-8", newline="")
    script = 'set -a; . "$1"; shift; exec "$@"'
    command = ["sh", "-euc", script, "sh", str(path), sys.executable, "-c", PRINT, *variables]
    return json.loads(subprocess.run(command, check=True, capture_output=True, env={"LC_ALL": "C.UTF-8"}).stdout)


@settings(max_examples=60, deadline=None)
@given(st.lists(ALLOWED, max_size=8))
@example(
    [
        "",
        " padded ",
        "a\\",
        "\\\n",
        "$HOME ${HOME} $(id) `id`",
        'say "hi"',
        "it's",
        "100%n %%",
        "two\nlines\n",
        "#no; comment",
        "ünï ☃ 🐍",
    ]
)
def test_any_text_survives_sh(tmp_path_factory, values):
    variables = {f"V{index}": value for index, value in enumerate(values)}
    assert through_sh(tmp_path_factory, variables) == variables


def test_values_that_are_not_text():
    variables = {"NO": False, "YES": True, "N": 8, "F": 0.5, "HOSTS": ["a.example", "b.example"], "NONE": []}
    assert env_file(variables) == 'F="0.5"\nHOSTS="a.example,b.example"\nN="8"\nNO="False"\nNONE=""\nYES="True"\n'


def test_the_order_of_the_input_does_not_matter():
    assert env_file({"B": "1", "A": "2"}) == env_file({"A": "2", "B": "1"})


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A=B", "É", "A\n", 7])
def test_a_bad_name_is_refused(name):
    with pytest.raises(AnsibleFilterError, match="not a name"):
        env_file({name: "hunter2"})


@pytest.mark.parametrize(
    "value",
    [
        "hunter2\0",
        "hunter2\r",
        "hunter2\x1b",
        "\x7fhunter2",
        "hunter2\udc80",
        {"hunter2": 1},
        None,
        ["hunter2", None],
        ["hunter2,x"],
        b"hunter2",
    ],
)
def test_a_bad_value_is_refused_by_name_and_not_shown(value):
    with pytest.raises(AnsibleFilterError, match="environment variable TOKEN: ") as error:
        env_file({"TOKEN": value})
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("value", ["A=1", None, ["A"]])
def test_only_a_dictionary_is_taken(value):
    with pytest.raises(AnsibleFilterError, match="dictionary"):
        env_file(value)
