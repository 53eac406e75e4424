"""Every setting, read once from the environment. `docs/settings.md` lists them with unit and default.

Names that the reference server knows keep the reference's spelling, so that a user carries them over unchanged.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.core.environment import (
    database,
    env_bool,
    env_int,
    env_list,
    env_seconds,
    env_text,
    kept_secret,
)
from orchestrator.core.logs import configuration

BASE_DIR = Path(__file__).resolve().parent.parent
HOME = Path(env_text("ORCHESTRATOR_HOME", default=str(Path.home() / ".orchestrator"))).expanduser()

# --- the ground Django stands on -----------------------------------------------------------------------------------

DATABASE_URL = env_text("DATABASE_URL", "ORCHESTRATOR_DATABASE_URL", default=f"sqlite:///{HOME / 'orchestrator.sqlite3'}")
HOME.mkdir(mode=0o700, parents=True, exist_ok=True)
DATABASES = {"default": database(DATABASE_URL)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

DEBUG = env_bool("ORCHESTRATOR_DEBUG", default=False)
SECRET_KEY = env_text("SECRET_KEY", "ORCHESTRATOR_SECRET_KEY") or kept_secret(HOME / "secret_key")
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", "ORCHESTRATOR_ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env_list("CSRF_TRUSTED_ORIGINS", "ORCHESTRATOR_CSRF_TRUSTED_ORIGINS", default=[])

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "orchestrator.core",
    "orchestrator.accounts",
    "orchestrator.blocks",
    "orchestrator.concurrency",
    "flowruns",
    "workqueues",
    "deployments",
    "orchestrator.automations",
    "orchestrator.console",
]

MIDDLEWARE = [
    # Answers /api by itself: sessions, messages and the admin's CSRF cookie are of no use to the wire.
    "orchestrator.core.middleware.ApiMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "orchestrator.urls"
WSGI_APPLICATION = "orchestrator.wsgi.application"
APPEND_SLASH = False

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
            ]
        },
    }
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
USE_I18N = False

STATIC_URL = "/static/"
STATIC_ROOT = HOME / "static"
STATIC_ROOT.mkdir(exist_ok=True)
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False

X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
# The body cap is the socket server's; a page of logs may be larger than Django's default of 2.5 MB.
DATA_UPLOAD_MAX_MEMORY_SIZE = 16 * 1024 * 1024

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["orchestrator.core.renderers.WireRenderer"],
    "DEFAULT_PARSER_CLASSES": ["orchestrator.core.renderers.WireParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "EXCEPTION_HANDLER": "orchestrator.core.errors.answer",
    "DEFAULT_SCHEMA_CLASS": "orchestrator.core.openapi.WireSchema",
    "UNAUTHENTICATED_USER": None,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Orchestrator",
    "DESCRIPTION": "The REST API of Orchestrator, wire-compatible with the Prefect 3 server.",
    "VERSION": "0.8.4",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api",
}

LOG_FORMAT = env_text("ORCHESTRATOR_LOG_FORMAT", default="text")
LOG_LEVEL = env_text("ORCHESTRATOR_LOG_LEVEL", default="INFO").upper()
LOGGING = configuration(LOG_FORMAT, LOG_LEVEL)

# --- the API -------------------------------------------------------------------------------------------------------

API_VERSION = "0.8.4"
API_OLDEST_VERSION = (0, 8, 0)
REFERENCE_VERSION = "3.8.8"
API_AUTH_STRING = env_text("PREFECT_SERVER_API_AUTH_STRING")
API_DEFAULT_LIMIT = env_int("PREFECT_SERVER_API_DEFAULT_LIMIT", "PREFECT_API_DEFAULT_LIMIT", default=200, at_least=1)
API_CSRF_PROTECTION = env_bool("PREFECT_SERVER_CSRF_PROTECTION_ENABLED", default=False)
API_CSRF_TOKEN_LIFETIME = env_seconds("PREFECT_SERVER_CSRF_TOKEN_EXPIRATION", default=3600)
API_CORS_ALLOWED_ORIGINS = env_text("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", default="*")
MAX_PARAMETER_BYTES = env_int("PREFECT_SERVER_API_MAX_PARAMETER_SIZE", default=524_288)

# --- deployments and their scheduler -------------------------------------------------------------------------------

_SCHEDULER = ("PREFECT_SERVER_SERVICES_SCHEDULER_", "PREFECT_API_SERVICES_SCHEDULER_")


def _scheduler(name: str) -> tuple[str, ...]:
    return tuple(prefix + name for prefix in _SCHEDULER)


SCHEDULER_ENABLED = env_bool(*_scheduler("ENABLED"), default=True)
SCHEDULER_LOOP = env_seconds(*_scheduler("LOOP_SECONDS"), default=60)
# How often the watermarks are looked at; the look costs one indexed read, so changed schedules are filled at once.
SCHEDULER_WAKE = env_seconds("ORCHESTRATOR_SCHEDULER_WAKE_SECONDS", default=0.5)
SCHEDULER_BATCH_SIZE = env_int(*_scheduler("DEPLOYMENT_BATCH_SIZE"), default=100, at_least=1)
SCHEDULER_MAX_RUNS = env_int(*_scheduler("MAX_RUNS"), default=100, at_least=1)
SCHEDULER_MIN_RUNS = env_int(*_scheduler("MIN_RUNS"), default=3, at_least=1)
SCHEDULER_MAX_SCHEDULED_TIME = env_seconds(*_scheduler("MAX_SCHEDULED_TIME"), default=100 * 86_400)
SCHEDULER_MIN_SCHEDULED_TIME = env_seconds(*_scheduler("MIN_SCHEDULED_TIME"), default=3600)
SCHEDULER_INSERT_BATCH_SIZE = env_int(*_scheduler("INSERT_BATCH_SIZE"), default=500, at_least=1)
SCHEDULE_MAX_SCHEDULED_RUNS = env_int("PREFECT_DEPLOYMENT_SCHEDULE_MAX_SCHEDULED_RUNS", default=50, at_least=1)

# --- runs ----------------------------------------------------------------------------------------------------------

CONCURRENCY_SLOT_WAIT = env_seconds("PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS", default=30)
DEPLOYMENT_LEASE = env_seconds("PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION", default=300)
LATE_RUNS_LOOP = env_seconds("PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS", default=5)
LATE_AFTER = env_seconds("PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS", default=15)

# --- pools, queues and workers -------------------------------------------------------------------------------------

_FOREMAN = "PREFECT_SERVER_SERVICES_FOREMAN_"
FOREMAN_LOOP = env_seconds(f"{_FOREMAN}LOOP_SECONDS", default=15)
WORKER_INACTIVITY_MULTIPLE = env_int(f"{_FOREMAN}INACTIVITY_HEARTBEAT_MULTIPLE", default=3, at_least=1)
WORKER_FALLBACK_HEARTBEAT = env_seconds(f"{_FOREMAN}FALLBACK_HEARTBEAT_INTERVAL_SECONDS", default=30)
DEPLOYMENT_POLLED_TIMEOUT = env_seconds(f"{_FOREMAN}DEPLOYMENT_LAST_POLLED_TIMEOUT_SECONDS", default=60)
QUEUE_POLLED_TIMEOUT = env_seconds(f"{_FOREMAN}WORK_QUEUE_LAST_POLLED_TIMEOUT_SECONDS", default=60)

# Background loops of `manage.py run_services`, lowest app first.
SERVICES = [
    "orchestrator.core.services.PlannerStatistics",
    "flowruns.services.LateRuns",
    "workqueues.services.Foreman",
    "deployments.services.Scheduler",
]

UNFOLD = {
    "SITE_TITLE": "Orchestrator",
    "SITE_HEADER": "Orchestrator",
    "SITE_URL": "/docs",
    "DASHBOARD_CALLBACK": "orchestrator.console.dashboard.context",
    "SHOW_HISTORY": True,
    "SIDEBAR": {"show_search": True, "show_all_applications": True},
}
