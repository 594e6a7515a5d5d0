"""Settings: one file, values from the environment, a bad value is an error at start.

Without DATABASE_URL the portal runs its own PostgreSQL in the data directory, for one machine and
one trusted user; see `auditportal.embedded`. Everything a deployment may set stands in the README.
"""

from __future__ import annotations

import secrets
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import environ
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

AUDITPORTAL_DATA_DIR = Path(env.str("AUDITPORTAL_DATA_DIR", str(BASE_DIR / "var"))).absolute()
DEPLOYED = bool(env.str("DATABASE_URL", ""))


def _required_when_deployed(name: str, otherwise: str) -> str:
    value = env.str(name, "")
    if DEPLOYED and not value:
        raise ImproperlyConfigured(f"{name} has to be set when DATABASE_URL is")
    return value or otherwise


def _own_secret_key() -> str:
    """A secret key of this data directory's own, made at the first start, mode 0600."""
    path = AUDITPORTAL_DATA_DIR / "secret_key"
    AUDITPORTAL_DATA_DIR.mkdir(parents=True, exist_ok=True)
    try:
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(secrets.token_urlsafe(50))
    except FileExistsError:
        pass
    return path.read_text()


SECRET_KEY = env.str("SECRET_KEY", "") or _required_when_deployed("SECRET_KEY", "")
if not SECRET_KEY:
    SECRET_KEY = _own_secret_key()
DEBUG = env.bool("DEBUG", False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])

AUDITPORTAL_ORIGIN = _required_when_deployed("AUDITPORTAL_ORIGIN", "demo.auditportal.invalid")
"""The name of this log, in every entry for good: a host name with or without a path."""

# --- the log: who signs it, and where its checkpoints go ----------------------------------------

AUDITPORTAL_SIGNING_KEY_FILE = Path(
    env.str("AUDITPORTAL_SIGNING_KEY_FILE", str(AUDITPORTAL_DATA_DIR / "signing_key"))
)
"""The log's private key, read by the worker alone; mode 0600."""

LEDGER_MAKES_ITS_KEY = not DEPLOYED
"""Whether a key that is missing is made; a deployment has to bring its own."""

LEDGER_PUBLIC = env.bool("LEDGER_PUBLIC", False)
"""Whether everyone may read checkpoints and hashes; entries always need a key or a sign-in."""

LEDGER_MEMORY_DIR = Path(env.str("LEDGER_MEMORY_DIR", str(AUDITPORTAL_DATA_DIR / "published")))
"""Where the worker keeps the last checkpoint it signed, outside the database it signs."""

LEDGER_PUBLISH_DIR = env.str("LEDGER_PUBLISH_DIR", "")
"""A directory that leaves this machine (mounted storage, a git work tree), for checkpoints."""

LEDGER_PUBLISH_SECONDS = env.int("LEDGER_PUBLISH_SECONDS", 60)
"""How often checkpoints go there and to the witnesses."""

LEDGER_WITNESSES = env.list("LEDGER_WITNESSES", default=[])
"""Who cosigns checkpoints (C2SP tlog-witness): 'VKEY URL', with commas between them."""

# --- the daily review ---------------------------------------------------------------------------


def _zone(name: str) -> str:
    """The name of a time zone, for an error at start where there is none of that name."""
    value = env.str(name, "UTC")
    try:
        ZoneInfo(value)
    except (LookupError, OSError, ValueError):
        raise ImproperlyConfigured(
            f"{name}: {value!r} is no time zone; use a name like Europe/Berlin"
        ) from None
    return value


AUDITPORTAL_REVIEW_ZONE = _zone("AUDITPORTAL_REVIEW_ZONE")
"""The time zone whose calendar days are reviewed and signed off."""

AUDITPORTAL_REVIEW_HOURS = env.int("AUDITPORTAL_REVIEW_HOURS", 24)
"""How many hours after its end a day may be signed off in time."""

# --- jobs and notices --------------------------------------------------------------------------


def _hour(name: str, otherwise: int) -> int:
    """An hour of the day, for an error at start where it is none."""
    value = env.int(name, otherwise)
    if not 0 <= value <= 23:
        raise ImproperlyConfigured(f"{name}: {value} is no hour; use 0 to 23")
    return value


AUDITPORTAL_DIGEST_HOUR = _hour("AUDITPORTAL_DIGEST_HOUR", 7)
"""At which hour of the review's time zone the daily digest is sent."""

AUDITPORTAL_URL = env.str(
    "AUDITPORTAL_URL", f"https://{ALLOWED_HOSTS[0]}" if DEPLOYED else "http://127.0.0.1:8000"
).rstrip("/")
"""Where the portal is reached, for the links in mails."""

_mail = env.email_url("EMAIL_URL", default="consolemail://")
EMAIL_BACKEND = _mail["EMAIL_BACKEND"]
EMAIL_HOST = _mail.get("EMAIL_HOST") or "localhost"
EMAIL_PORT = _mail.get("EMAIL_PORT") or 25
EMAIL_HOST_USER = _mail.get("EMAIL_HOST_USER") or ""
EMAIL_HOST_PASSWORD = _mail.get("EMAIL_HOST_PASSWORD") or ""
EMAIL_USE_TLS = _mail.get("EMAIL_USE_TLS", False)
EMAIL_USE_SSL = _mail.get("EMAIL_USE_SSL", False)
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.str("EMAIL_FROM", "AuditPortal <auditportal@localhost>")

PROCRASTINATE_AUTODISCOVER_MODULE_NAME = "jobs"
PROCRASTINATE_DATABASE_ALIAS = "worker"

# --- the database: web by default, its owner for migrations, the worker for the ledger ---------


def _database(variable: str, user: str) -> dict[str, Any]:
    """One role's connection: from its own variable, else web's, else the embedded server."""
    if DEPLOYED:
        url = env.str(variable, "") or env.str("DATABASE_URL")
        database = env.db_url_config(url)
        if database.get("ENGINE") != "django.db.backends.postgresql":
            raise ImproperlyConfigured(f"{variable} has to be a postgres:// URL: only PostgreSQL")
        database["ENGINE"] = "auditportal.pooled"
    else:
        database = {"ENGINE": "auditportal.embedded", "NAME": "auditportal", "USER": user}
    return database | {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}


DATABASE_POOL_SIZE = env.int("DATABASE_POOL_SIZE", 0)
"""How many connections a process of the web server has at most for requests, and as many again
for the recorder; 0: no pools, each thread keeps its own. gunicorn.py sets it; commands and tests,
which have one thread, go without.
"""


def _pooled(database: dict[str, Any]) -> dict[str, Any]:
    """The same connection out of a pool, which gives up soon and comes back by itself."""
    if not DATABASE_POOL_SIZE:
        return database
    pool = {
        "min_size": 1,
        "max_size": DATABASE_POOL_SIZE,
        # Seconds that a request waits for a connection, then it is answered 503. There is one for
        # each thread, so it waits only for a new one to be opened; and while the database is away,
        # its thread is soon free for others.
        "timeout": 2,
        # Seconds that the pool goes on trying by itself, with growing pauses: less than a request
        # waits, so that the first request after the database is back finds it.
        "reconnect_timeout": 1,
        "max_idle": 60,
    }
    options = database.get("OPTIONS", {}) | {"pool": pool}
    return database | {"CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": False, "OPTIONS": options}


_web = _database("DATABASE_URL", "auditportal_web")
DATABASES = {
    "default": _pooled(_web) | {"TEST": {"MIRROR": "owner"}},
    # Web once more, for the recorder alone: what it commits, no rollback of a request takes back.
    "evidence": _pooled(_web) | {"TEST": {"MIRROR": "owner"}},
    "owner": _database("DATABASE_MIGRATION_URL", "auditportal_owner"),
    "worker": _database("DATABASE_WORKER_URL", "auditportal_worker")
    | {"TEST": {"MIRROR": "owner"}},
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- the application ---------------------------------------------------------------------------

INSTALLED_APPS = [
    "auditportal.apps.PortalAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django.contrib.humanize",
    "csp",
    "django_filters",
    "rest_framework",
    "rest_framework_api_key",
    "drf_spectacular",
    "procrastinate.contrib.django",
    "audit",
]
MIDDLEWARE = [
    "audit.middleware.request_context",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "audit.middleware.BoundedPages",
]
ROOT_URLCONF = "auditportal.urls"
WSGI_APPLICATION = "auditportal.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "static/"
STATIC_ROOT = AUDITPORTAL_DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# --- the API -----------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["audit.api.keys.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["audit.api.keys.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["audit.api.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "audit.api.problems.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "AuditPortal",
    "VERSION": "1",
    "DESCRIPTION": "Write audit events, read and export them. Errors are RFC 9457 problem details.",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": [],
    "SERVE_AUTHENTICATION": [],
    "SCHEMA_PATH_PREFIX": "/api/v1",
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 16 * 1024 * 1024

# --- security ----------------------------------------------------------------------------------

HTTPS = env.bool("HTTPS", DEPLOYED)
"""Whether browsers reach the portal by https; only the embedded demo does without."""

SECURE_SSL_REDIRECT = HTTPS
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
if env.bool("BEHIND_TLS_PROXY", False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")


def _proxies(name: str) -> tuple[IPv4Network | IPv6Network | str, ...]:
    """Addresses and networks, with commas between them; "unix" is whoever has our Unix socket."""
    try:
        return tuple(
            entry if entry == "unix" else ip_network(entry) for entry in env.list(name, default=[])
        )
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {error}") from None


TRUSTED_PROXIES = _proxies("TRUSTED_PROXIES")
"""Who is believed when X-Forwarded-For says where a request came from; by default nobody."""

SESSION_COOKIE_AGE = 8 * 3600
SESSION_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    },
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": {"()": "audit.context.RequestIdFilter"}},
    "formatters": {
        "line": {"format": "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"}
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "filters": ["request_id"],
        }
    },
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", "WARNING")},
}
