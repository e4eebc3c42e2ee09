"""Settings of the herbarium. Everything that differs between machines comes from the environment.

The variables carry the names of Django's settings. Nothing is read from files, and what production must not
guess (the secret key, the database, where uploads go) has no default unless DEBUG is on.
"""

import os
from email.utils import formataddr, getaddresses
from pathlib import Path
from urllib.parse import unquote, urlsplit

import dj_database_url
import django
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent


# Reading the environment


def text(name, default=""):
    return os.environ.get(name, default).strip()


def flag(name, default=False):
    value = text(name).lower()
    if value in {"", "1", "true", "yes", "on", "0", "false", "no", "off"}:
        return value in {"1", "true", "yes", "on"} if value else default
    raise ImproperlyConfigured(f"{name} must be true or false.")


def number(name, default):
    try:
        return int(text(name) or default)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number.") from None


def items(name):
    return [item.strip() for item in text(name).split(",") if item.strip()]


def required(name, in_development):
    """The variable, or its stand-in while DEBUG is on. Production never runs on a stand-in."""
    value = os.environ.get(name, "")
    if not value and not DEBUG:
        raise ImproperlyConfigured(f"{name} must be set in the environment (or DEBUG=true, on your own machine only).")
    return value or in_development


def addresses(name):
    return [(person, address) for person, address in getaddresses([text(name)]) if address]


# Core

DEBUG = flag("DEBUG")
SECRET_KEY = required("SECRET_KEY", in_development="only-for-development-" + "x" * 50)
SECRET_KEY_FALLBACKS = items("SECRET_KEY_FALLBACKS")
ALLOWED_HOSTS = items("ALLOWED_HOSTS")
CSRF_TRUSTED_ORIGINS = items("CSRF_TRUSTED_ORIGINS")

# Which release this is: shown in the footer, in /health/ and to live sockets. Empty is fine.
RELEASE = text("RELEASE")

# Whether visitors may make an account themselves. When off, accounts are made in the admin.
SIGN_UP_OPEN = flag("SIGN_UP_OPEN", default=True)

INSTALLED_APPS = [
    "accounts",
    "sightings",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "herbarium.urls"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "herbarium" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "herbarium.context.site",
            ],
        },
    },
]


# Database

_url = required("DATABASE_URL", in_development=f"sqlite:///{BASE_DIR / 'var' / 'db.sqlite3'}")
try:
    # An ASGI server has no thread that keeps a connection between requests, hence no CONN_MAX_AGE: a pool does.
    _database = dj_database_url.parse(_url, conn_max_age=0, conn_health_checks=True)
except ValueError:
    # The message would quote a part of the password.
    raise ImproperlyConfigured("DATABASE_URL is not a valid URL. Is its password percent-encoded?") from None
DATABASES = {"default": _database}
_options = _database.setdefault("OPTIONS", {})

if _database["ENGINE"] == "django.db.backends.postgresql":
    # `?host=/var/run/postgresql` is libpq's way to name a socket. Say it in Django's words, so that
    # `manage.py dbshell` finds the server too.
    _database["HOST"] = _options.pop("host", _database["HOST"])
    _database["PORT"] = _options.pop("port", _database["PORT"])
    # Per process; 0 for none. One more connection is open while someone watches the live page, and one for the moment
    # of a health check.
    if _pool_size := number("DATABASE_POOL_SIZE", 4):
        _options["pool"] = {"min_size": 1, "max_size": _pool_size, "timeout": 5}
    _options.setdefault("connect_timeout", 5)
    _options.setdefault("application_name", "herbarium")
elif _database["ENGINE"] == "django.db.backends.sqlite3":
    # Take the write lock at the start, so that two writers wait for each other instead of failing.
    _options.setdefault("transaction_mode", "IMMEDIATE")
    _options.setdefault("init_command", "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;")
    _database["TEST"] = {"NAME": BASE_DIR / "var" / "test.sqlite3"}
    if DEBUG:
        Path(_database["NAME"]).parent.mkdir(parents=True, exist_ok=True)

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"


# Accounts

AUTH_USER_MODEL = "accounts.User"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "home"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]


# Language and time

LANGUAGE_CODE = text("LANGUAGE_CODE", "en-gb")
TIME_ZONE = text("TIME_ZONE", "UTC")
USE_I18N = True
USE_TZ = True


# Static files and uploads

STATIC_URL = text("STATIC_URL", "/static/")
STATIC_ROOT = text("STATIC_ROOT") or BASE_DIR / "var" / "static"
STATICFILES_DIRS = [BASE_DIR / "herbarium" / "static"]
MEDIA_URL = text("MEDIA_URL", "/media/")
# Uploads outlive every release, so production has to say where they are.
MEDIA_ROOT = required("MEDIA_ROOT", in_development=BASE_DIR / "var" / "media")

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        # Names with a hash of the content: browsers may keep them for ever, and two releases do not clash.
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
    },
}

# A photo, as it is sent. The proxy in front must allow a little more for the rest of the form.
PHOTO_MAX_BYTES = 8 * 1024 * 1024
PHOTO_MAX_PIXELS = 40_000_000


# Email: EMAIL_URL is smtp://user:password@host:port (plain), smtp+tls:// (STARTTLS), smtps:// (TLS) or console:

DEFAULT_FROM_EMAIL = text("DEFAULT_FROM_EMAIL", "herbarium@localhost")
SERVER_EMAIL = text("SERVER_EMAIL", DEFAULT_FROM_EMAIL)
EMAIL_SUBJECT_PREFIX = "[herbarium] "

_email = urlsplit(text("EMAIL_URL") or ("console:" if DEBUG else "smtp://localhost:25"))
if _email.scheme == "console":
    _email_backend, _email_options = "django.core.mail.backends.console.EmailBackend", {}
else:
    try:
        _email_options = {
            "host": _email.hostname or "localhost",
            "port": _email.port or {"smtp": 25, "smtp+tls": 587, "smtps": 465}[_email.scheme],
            "username": unquote(_email.username or ""),
            "password": unquote(_email.password or ""),
            "use_tls": _email.scheme == "smtp+tls",
            "use_ssl": _email.scheme == "smtps",
            "timeout": 10,
        }
    except (KeyError, ValueError):
        # As above: no part of the URL is quoted.
        raise ImproperlyConfigured(
            "EMAIL_URL must be smtp://, smtp+tls:// or smtps://user:password@host:port, the password percent-encoded."
        ) from None
    _email_backend = "django.core.mail.backends.smtp.EmailBackend"

if django.VERSION >= (6, 1):
    MAILERS = {
        "default": {"BACKEND": _email_backend, "OPTIONS": _email_options},
        # A mail server that is down must not turn an error report into a second error.
        "error_reports": {"BACKEND": _email_backend, "OPTIONS": {**_email_options, "fail_silently": True}},
    }
    _error_reports = {"using": "error_reports"}
    ADMINS = [formataddr(person) for person in addresses("ADMINS")]
else:
    EMAIL_BACKEND = _email_backend
    if _email_options:
        EMAIL_HOST = _email_options["host"]
        EMAIL_PORT = _email_options["port"]
        EMAIL_HOST_USER = _email_options["username"]
        EMAIL_HOST_PASSWORD = _email_options["password"]
        EMAIL_USE_TLS = _email_options["use_tls"]
        EMAIL_USE_SSL = _email_options["use_ssl"]
        EMAIL_TIMEOUT = _email_options["timeout"]
    _error_reports = {}
    ADMINS = addresses("ADMINS")


# Security. The proxy in front ends TLS and overwrites X-Forwarded-Proto; nothing else can reach the application.

SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = flag("SECURE_SSL_REDIRECT", default=not DEBUG)
# Whoever asks for health may do so without TLS, from beside the process.
SECURE_REDIRECT_EXEMPT = [r"^health/$"]
SECURE_HSTS_SECONDS = number("SECURE_HSTS_SECONDS", 0 if DEBUG else 3600)
SECURE_HSTS_INCLUDE_SUBDOMAINS = flag("SECURE_HSTS_INCLUDE_SUBDOMAINS")
SECURE_HSTS_PRELOAD = flag("SECURE_HSTS_PRELOAD")
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_SECURE = not DEBUG
CSRF_COOKIE_SECURE = not DEBUG
CSRF_COOKIE_HTTPONLY = True
X_FRAME_OPTIONS = "DENY"

SILENCED_SYSTEM_CHECKS = [
    # HSTS for every subdomain, and the browsers' preload list, bind names that are not this site's to bind. Whoever
    # owns the domain turns them on: SECURE_HSTS_INCLUDE_SUBDOMAINS and SECURE_HSTS_PRELOAD.
    "security.W005",
    "security.W021",
]

if django.VERSION >= (6, 0):
    from django.utils.csp import CSP

    def _sources(*urls):
        """Ourselves, and the other origins that these URLs point to."""
        parts = [urlsplit(url) for url in urls]
        return [CSP.SELF, *{f"{part.scheme or 'https'}://{part.netloc}" for part in parts if part.netloc}]

    MIDDLEWARE.insert(1, "django.middleware.csp.ContentSecurityPolicyMiddleware")
    SECURE_CSP = {
        "default-src": [CSP.NONE],
        "base-uri": [CSP.NONE],
        "connect-src": [CSP.SELF],
        "font-src": _sources(STATIC_URL),
        "form-action": [CSP.SELF],
        "frame-ancestors": [CSP.NONE],
        "img-src": [*_sources(STATIC_URL, MEDIA_URL), "data:"],
        "script-src": _sources(STATIC_URL),
        "style-src": _sources(STATIC_URL),
    }


# Errors: reported to ADMINS by mail, without the variables. Everything is logged too.

DEFAULT_EXCEPTION_REPORTER_FILTER = "herbarium.reports.WithoutVariables"


# Logging: to standard error, where systemd and containers expect it. The journal adds the time.

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{levelname} {name}: {message}", "style": "{"}},
    # A report needs a traceback; a plain 503 from /health/ is for whoever asked.
    "filters": {"traceback": {"()": "django.utils.log.CallbackFilter", "callback": lambda record: record.exc_info}},
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "line"},
        "mail_admins": {
            "class": "django.utils.log.AdminEmailHandler",
            "level": "ERROR",
            "filters": ["traceback"],
            **_error_reports,
        },
    },
    "root": {"handlers": ["stderr"], "level": text("LOG_LEVEL", "INFO").upper()},
    "loggers": {
        # Django's own handlers print only while DEBUG is on; let everything reach the root's instead.
        "django": {"handlers": ["mail_admins"] if ADMINS else [], "level": "INFO"},
        "django.server": {"handlers": [], "level": "INFO", "propagate": True},
        # Scanners ask for hosts that are not ours all day. The web server turns most away; the rest is not an error.
        "django.security.DisallowedHost": {"handlers": [], "level": "CRITICAL", "propagate": False},
    },
}
