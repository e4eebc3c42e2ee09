# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is known of Django's deployment checklist: its headings, the checks that belong to each, and what may be waived.

It comes to a host twice. The report's copy is sent by the controller with each run. The gate's is vivarium_headings.py in the
release, beside the project's code: the report never reads that one. So it imports nothing but Python.
"""

from __future__ import annotations

# The headings of the page in its order: title, the method of the report that proves it, and the checks that belong to it. Where
# one of these says what stops a deploy, the heading has failed; a waiver of one is named beside it.
HEADINGS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Run manage.py check --deploy", "checks", ("vivarium.E031",)),
    ("Switch away from manage.py runserver", "server", ()),
    ("SECRET_KEY", "secret_key", ("security.W009", "security.W025", "vivarium.E009")),
    ("DEBUG", "debug", ("security.W018", "vivarium.E027")),
    ("ALLOWED_HOSTS", "allowed_hosts", ("security.W020", "vivarium.E001")),
    ("CACHES", "caches", ("vivarium.W004", "vivarium.W030")),
    ("DATABASES", "databases", ("vivarium.E011", "vivarium.E012", "vivarium.W016", "vivarium.E017")),
    (
        "MAILERS, EMAIL_BACKEND and related settings", "mail",
        ("mail.E001", "mail.W001", "vivarium.W007", "vivarium.W021", "vivarium.I019"),
    ),
    ("STATIC_ROOT and STATIC_URL", "static", ("vivarium.E026",)),
    ("MEDIA_ROOT and MEDIA_URL", "media", ("vivarium.E006", "vivarium.W032")),
    (
        "HTTPS", "https",
        ("security.W001", "security.W004", "security.W005", "security.W008", "security.W021", "vivarium.I028"),
    ),
    ("CSRF_COOKIE_SECURE", "csrf_cookie", ("security.W003", "security.W016")),
    ("SESSION_COOKIE_SECURE", "session_cookie", ("security.W010", "security.W011", "security.W012")),
    ("Sessions", "sessions", ("vivarium.E010", "vivarium.E013")),
    ("CONN_MAX_AGE", "kept_connections", ("vivarium.E002", "vivarium.E003")),
    ("TEMPLATES", "templates", ()),
    ("LOGGING", "logging", ()),
    ("ADMINS and MANAGERS", "admins", ("vivarium.W008", "vivarium.W018")),
    ("Customize the default error views", "error_views", ()),
)  # fmt: skip
# What some are called for an application without Django.
PLAIN: dict[str, str] = {
    "Run manage.py check --deploy": "Checks of the deployment",
    "Switch away from manage.py runserver": "Server",
    "SECRET_KEY": "Secrets",
}

# Our own checks, by whose applications they look at. The letter says how grave a message is: error, warning, information.
OF_DJANGO: tuple[str, ...] = (
    "vivarium.E001", "vivarium.E002", "vivarium.E003", "vivarium.W004", "vivarium.I005", "vivarium.E006", "vivarium.W007",
    "vivarium.W008", "vivarium.E010", "vivarium.E013", "vivarium.I014", "vivarium.I015", "vivarium.W016", "vivarium.E017",
    "vivarium.I019", "vivarium.I020", "vivarium.W021", "vivarium.I025", "vivarium.E026", "vivarium.I028", "vivarium.W029",
    "vivarium.W030", "vivarium.E031", "vivarium.W032",
)  # fmt: skip
OF_OTHERS: tuple[str, ...] = ("vivarium.E027",)
OF_BOTH: tuple[str, ...] = (
    "vivarium.E009", "vivarium.E011", "vivarium.E012", "vivarium.W018", "vivarium.W033", "vivarium.I034",
)  # fmt: skip
# What the gate itself says: a check fell over, a waiver of an unknown check, a waiver without effect. None can be waived ahead.
FELL_OVER, UNKNOWN_WAIVER, IDLE_WAIVER = "vivarium.E022", "vivarium.E023", "vivarium.I024"

# What the page calls critical is not for a project to silence (SILENCED_SYSTEM_CHECKS); a waiver with a reason can.
CRITICAL: tuple[str, ...] = ("security.W009", "security.W018", "security.W020", "security.W025")
# Django looks for these middlewares by their name: one that is derived from it does as well.
MIDDLEWARE: dict[str, str] = {
    "security.W001": "django.middleware.security.SecurityMiddleware",
    "security.W002": "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "security.W003": "django.middleware.csrf.CsrfViewMiddleware",
}
# Waived for everybody, since they stand for a decision about the whole domain: the key of `hsts` that takes it, and the reason.
STANDING_WAIVERS: dict[str, tuple[str, str]] = {
    "security.W004": ("max_age", "the inventory turns HSTS off (hsts)"),
    "security.W005": ("include_subdomains", "HSTS for every subdomain binds names that may not be this site's"),
    "security.W021": ("preload", "the browsers' preload list is for a whole domain, and hard to get off again"),
}

# A name that is none of any application's.
STRANGER = "vivarium-probe.invalid"


def is_ours(identifier: str, framework: str) -> bool:
    """Whether one of our checks of such an application has this id."""
    return identifier in OF_BOTH or identifier in (OF_DJANGO if framework == "django" else OF_OTHERS)
