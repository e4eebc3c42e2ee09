# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with what the inputs certificates_acme_… say; no message holds a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils.forms import is_line, is_number

EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){1,8}")
# What certbot's configuration takes as it stands.
URL = re.compile(r"https://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?/[A-Za-z0-9._~/-]{0,200}")
KID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,200}(?:[.~+/=:][A-Za-z0-9_-]{0,100}){0,9}")
HMAC_KEY = re.compile(r"[A-Za-z0-9_-]{1,500}={0,2}")  # base64 for URLs
PROFILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,49}")
PATH = re.compile(r"(/[A-Za-z0-9._-]{1,100}){1,20}")
UNIT = re.compile(r"[A-Za-z0-9@._:-]{1,200}\.(service|target)")
OPTION = re.compile(r"[a-z][a-z0-9_]{0,60}")
EAB = {"kid": KID, "hmac_key": HMAC_KEY}
DNS = ("plugin", "credentials", "propagation_seconds")
# certbot's DNS plugins that Debian has, by its release.
PLUGINS = {
    "12": "cloudflare digitalocean dnsimple gandi gehirn google linode ovh rfc2136 route53 sakuracloud".split(),
    "13": "cloudflare desec google infomaniak rfc2136 route53".split(),
}
# The releases whose certbot knows profiles.
PROFILES = ("13",)


def acme_problems(inputs: Mapping[str, Any], release: str) -> list[str]:
    """Return a sentence for everything that is wrong; what is not there is not looked at."""
    given = {name.removeprefix("certificates_acme_"): value for name, value in inputs.items()}
    problems = []
    for name, form, what in (
        ("email", EMAIL, "an e-mail address"),
        ("directory", URL, "the https:// URL of an ACME directory"),
        ("profile", PROFILE, "the name of a profile"),
    ):
        value = given.get(name)
        if value and not (isinstance(value, str) and form.fullmatch(value)):
            problems.append(f"certificates_acme_{name}: '{value!s:.80}' is not {what}")
    if not given.get("directory", "https:"):
        problems.append("certificates_acme_directory is empty; without it, certificates are Let's Encrypt's")
    webroot = given.get("webroot", "/a")
    if not isinstance(webroot, str) or not PATH.fullmatch(webroot) or "/../" in f"{webroot}/":
        problems.append("certificates_acme_webroot must be an absolute path, without blanks or special characters")
    if not is_number(given.get("port", 80), 1, 65535):
        problems.append(f"certificates_acme_port: '{given['port']!s:.20}' is not a port")
    if given.get("profile") and release and release not in PROFILES:
        problems.append(
            f"certificates_acme_profile: the certbot of Debian {release} does not know profiles, that of Debian 13 does"
        )
    units = given.get("reload", [])
    if not isinstance(units, list) or not all(isinstance(unit, str) and UNIT.fullmatch(unit) for unit in units):
        problems.append("certificates_acme_reload must be a list of systemd units, such as nginx.service")
    return problems + _eab_problems(given.get("eab")) + _dns_problems(given.get("dns"), release)


def _eab_problems(eab: Any) -> list[str]:
    if not eab:
        return []
    if not isinstance(eab, Mapping) or set(eab) != set(EAB):
        return [f"certificates_acme_eab must be a dictionary of {' and '.join(EAB)}"]
    return [
        f"certificates_acme_eab: {key} is not what an authority gives out (letters, digits, - and _)"
        for key, form in EAB.items()
        if not isinstance(eab[key], str) or not form.fullmatch(eab[key])
    ]


def _dns_problems(dns: Any, release: str) -> list[str]:
    if not dns:
        return []
    if not isinstance(dns, Mapping):
        return [f"certificates_acme_dns must be a dictionary of {', '.join(DNS)}"]
    problems = [
        f"certificates_acme_dns: unknown key '{key!s:.40}' (known: {', '.join(DNS)})" for key in dns if key not in DNS
    ]
    known = PLUGINS.get(release) or sorted({name for names in PLUGINS.values() for name in names})
    if dns.get("plugin") not in known:
        problems.append(
            f"certificates_acme_dns: plugin '{dns.get('plugin')!s:.40}' is not among those that Debian {release} has for"
            f" certbot: {', '.join(known)}"
        )
    if not is_number(dns.get("propagation_seconds", 60), 0, 3600):
        problems.append("certificates_acme_dns: propagation_seconds must be a number from 0 to 3600")
    credentials = dns.get("credentials")
    if credentials is None or isinstance(credentials, str):
        return problems
    if not isinstance(credentials, Mapping):
        return [*problems, "certificates_acme_dns: credentials must be a dictionary, or the text of the plugin's file"]
    for key, value in credentials.items():
        if not isinstance(key, str) or not OPTION.fullmatch(key):
            problems.append(f"certificates_acme_dns: credentials: '{key!s:.60}' is not an option of a plugin")
        elif isinstance(value, (dict, list)) or not is_line(str(value)) or re.search("[\"'%]", str(value)):
            problems.append(
                f"certificates_acme_dns: credentials: {key} must be one line, without quotation marks and percent signs"
            )
    return problems


def credentials_text(credentials: Any) -> str:
    """The file of a plugin; a text is taken as it is."""
    if isinstance(credentials, Mapping):
        return "".join(f'{key} = "{value}"\n' for key, value in credentials.items())
    return f"{credentials.strip()}\n"
