"""SCRAM verifiers: the same as PostgreSQL's own, for any password."""

from __future__ import annotations

import time

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.scram import scram_matches, scram_verifier
from hypothesis import given, settings
from hypothesis import strategies as st

# What PostgreSQL 15 stored for CREATE ROLE … PASSWORD: composed and decomposed, right to left, spaces of other scripts,
# characters that RFC 4013 drops, maps or forbids.
STORED = [
    (
        "shop-password",
        "SCRAM-SHA-256$4096:EeMQhWx9r3/IiYB36cFWuA==$nBWTVRyYqvvH83E6pwYU13XASSzrockcT2SX3y32de8=:PpOvf/yOVSDR58ohEWKl0WME5sOmxKPEKdaZF+NR27s=",
    ),
    (
        "pencil",
        "SCRAM-SHA-256$4096:OG4raVrFOZe1PzDHa5mZLg==$f5+QPbmzBOT2KWZsbwfvM0f4aXY+gidZ2cedvTJv9WY=:wwQHzCkiu3NM5ruuXqFj5Cmn2Pt5ejlnKHERqoquqts=",
    ),
    (
        "I\xadX",
        "SCRAM-SHA-256$4096:YBSIKYWv/JeyjUaZgix9zg==$MqgOo329xxoBSOkhblBMJEq5Z18XrvDVYF+YiAUX/54=:ENP4gn6fLjpO/Vx7RJ2rbasuUeY+oQkso5uYf+WMjPI=",
    ),
    (
        "\xaa",
        "SCRAM-SHA-256$4096:pYmtdKTPZs0qi2UhPzbJPQ==$Y6bjx9EMhr1bkV2nihsqn770400OX33UxMksqQzzkxE=:iqOFOXwAmIKE9qMXrXT8s+KC8LXnie9PZ/wDQ+3LCew=",
    ),
    (
        "\u2168 a\xa0b",
        "SCRAM-SHA-256$4096:KxeaByHS1JNP+xjCUzAWSQ==$EmWXHVsFCHOR0/Kj9ABhEVV9rFhdpM3Z93XHRY5WDiA=:F5GyLneAM+w8WzB/x7TRVa+fj5EMCMBfgBrCehBvJHU=",
    ),
    (
        "\ufb01n",
        "SCRAM-SHA-256$4096:vXFXP30GMq84JjQxLFZ2dg==$3g3z/RKIEWL3DDA3qd5ye1p4cHsJ6zdGBQ2PYK6kGSg=:UYEzlGjgVhPlhhVy3GVj9rqtctvR7GmqXDP7XCvweuQ=",
    ),
    (
        "pa\u0300\xdfwort",
        "SCRAM-SHA-256$4096:T73QUfeRcylcSv8nubxNBg==$aOkUed/q+mMZVuvQmqvFDEam99G22bMXXeU89ct8UTA=:agmaQonNH+FUT/9cR6/tA2SNzpsrl7+9ezKpjsa8ztA=",
    ),
    (
        "\u06271",
        "SCRAM-SHA-256$4096:EtukxswYfy46JEa/hW1CdQ==$rnApAvRhgHR6o0V2cdENQ5WiFIC2wqen/ZN+p6fFFno=:2FWvG19sR41Vi9HP/1eeVVS0U8k1zD0Q/LoyEoFw6YM=",
    ),
    (
        "\u0627\u0628",
        "SCRAM-SHA-256$4096:twFiMQOXcI4BdhHZTnHAlw==$/+DVaQGIhm1xmg5Q3EVcX4ke/FaTRCIDYzZ60e5B5mw=:+RlNVF/42Qb2gbPyLxyTuyiN0l1oafF8N6ZrT+zjtJc=",
    ),
    (
        "\x07\xe9",
        "SCRAM-SHA-256$4096:agImUMAWzxn+/BXx+P20hQ==$wQp2IMxRtYyuHItgdCyzMS/8bHqRTAkFi5ifesOQH9E=:VuAvBu5DBrT56F+zKqDFSAbp8UW2gnk+qSqK4aH5zgM=",
    ),
    (
        "\u0340",
        "SCRAM-SHA-256$4096:Y2PoE8D03wDi8ooLdYdTYg==$FdNRuM9nx5SW9F8T4KQZ471KxjlsMF8V3T9NIIC1+KE=:H276yPj7+wCNYVRquHCIh255KUJQ++pdGaC7TzHzsd0=",
    ),
    (
        "\u1680x",
        "SCRAM-SHA-256$4096:WulCIy2K93dBW1jlcXcr8A==$njtWQ4Ku+KL9zT0K29iRr1coIE/EeYt4DIjfKOaMcWk=:Akaea3j7qCp4blVmx4YhncXCU/y+2MYyoV2NGeqhhs0=",
    ),
    (
        "\u200bx",
        "SCRAM-SHA-256$4096:M5T82N5sUo+XDZ9j5IaBOA==$AjDFjgcYZ5BT8D0N4ApcHth6MSTJlpMhhnkkC6iIlZs=:wmcgZezRBbeBFCNBqtk9e8pqJVPl8oWu3vhMWUvEnNE=",
    ),
    (
        "\u1e9e\U0001f600",
        "SCRAM-SHA-256$4096:FjTY8w0LS6XGsDDXSZg8kQ==$RdgQ0/kvJH9JftjGJh7uXdd2za/TyFP5Yz44kK9ARmA=:OJ+B4cIhGPQgJ5kU4XawuZRAnJJ4ckhs+t81HY/WqwA=",
    ),
    (
        "'\\\"$ %s {{ x }}",
        "SCRAM-SHA-256$4096:+bPiO0WweLBEh1BFDnuIMA==$WQqk8PsLUE/T/7/ExZVPvzK/3UoQJ9Y6qtZV7yy6+ds=:SQrKRaYWnSSnhAQjXqU5iCsI0Z9yIcpmsAEmCdl/reQ=",
    ),
]


@pytest.mark.parametrize(("password", "verifier"), STORED)
def test_the_verifier_is_what_postgresql_stores(password, verifier):
    assert scram_matches(verifier, password)
    assert scram_verifier(password, salt=verifier.split(":")[1].split("$")[0]) == verifier
    assert not scram_matches(verifier, password + "x")


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1), st.text(min_size=1))
def test_a_verifier_matches_its_own_password(password, other):
    verifier = scram_verifier(password, iterations=1)
    assert scram_matches(verifier, password)
    assert verifier.isascii()
    if scram_matches(verifier, other):  # forms of one text, at most
        assert scram_verifier(other, "c2FsdA==", 1) == scram_verifier(password, "c2FsdA==", 1)


def test_a_new_verifier_has_a_new_salt():
    assert scram_verifier("secret") != scram_verifier("secret")
    assert scram_verifier("secret", "c2FsdA==") == scram_verifier("secret", "c2FsdA==")


@pytest.mark.parametrize(
    "verifier",
    [
        None,
        "",
        7,
        "md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "secret",
        "SCRAM-SHA-256$4096:x$y:z",
        "SCRAM-SHA-1$4096:a$b:c",
    ],
)
def test_what_is_no_verifier_matches_nothing(verifier):
    assert not scram_matches(verifier, "secret")


def test_no_password_matches_nothing():
    verifier = scram_verifier("secret", iterations=1)
    for password in (None, "", 7):
        assert not scram_matches(verifier, password)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("",), "password"), ((None,), "password"), (("s3cret", "not Base64!"), "salt"), (("s3cret", ""), "salt"),
     (("s3cret", None, 0), "iterations")],
)  # fmt: skip
def test_bad_arguments_are_named_without_the_password(arguments, message):
    with pytest.raises(AnsibleFilterError, match=message) as caught:
        scram_verifier(*arguments)
    assert "s3cret" not in str(caught.value)


def test_a_verifier_that_takes_long_to_compare_is_nobodys():
    """A role stores what it likes for its own password."""
    verifier = scram_verifier("secret", iterations=1).replace("$1:", "$9999999:")
    began = time.monotonic()
    assert not scram_matches(verifier, "secret")
    assert time.monotonic() - began < 0.5
