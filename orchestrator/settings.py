"""Every setting, read once from the environment. `docs/settings.md` lists them with unit and default.

Names that the reference server knows keep the reference's spelling, so that a user carries them over unchanged.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.core.environment import (
    database,
    derived_key,
    env_bool,
    env_choice,
    env_int,
    env_list,
    env_seconds,
    env_text,
    kept_secret,
)
from orchestrator.core.logs import FORMATS, LEVELS, configuration

BASE_DIR = Path(__file__).resolve().parent.parent
HOME = Path(env_text("ORCHESTRATOR_HOME", default=str(Path.home() / ".orchestrator"))).expanduser()

# --- the ground Django stands on -----------------------------------------------------------------------------------

DATABASE_URL = env_text("DATABASE_URL", "ORCHESTRATOR_DATABASE_URL", default=f"sqlite:///{HOME / 'orchestrator.sqlite3'}")
HOME.mkdir(mode=0o700, parents=True, exist_ok=True)
DATABASES = {"default": database(DATABASE_URL)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

DEBUG = env_bool("ORCHESTRATOR_DEBUG", default=False)
SECRET_KEY = env_text("SECRET_KEY", "ORCHESTRATOR_SECRET_KEY") or kept_secret(HOME / "secret_key")
# What secrets are encrypted with at rest: the first key writes, all of them read.
ENCRYPTION_KEYS = [
    env_text("PREFECT_SERVER_ENCRYPTION_KEY") or derived_key(SECRET_KEY),
    *env_list("ORCHESTRATOR_ENCRYPTION_KEY_FALLBACKS", default=[]),
    *map(derived_key, env_list("ORCHESTRATOR_SECRET_KEY_FALLBACKS", default=[])),
]
SECRET_KEY_FALLBACKS = env_list("ORCHESTRATOR_SECRET_KEY_FALLBACKS", default=[])
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
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "orchestrator.core",
    "orchestrator.accounts",
    "orchestrator.events",
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
    "OAS_VERSION": "3.1.0",
    # The pages of /docs come from this server, not from a network somewhere else.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "/favicon.ico",
}

LOG_FORMAT = env_choice("ORCHESTRATOR_LOG_FORMAT", default="text", choices=FORMATS)
LOG_LEVEL = env_choice("ORCHESTRATOR_LOG_LEVEL", default="INFO", choices=LEVELS)
LOGGING = configuration(LOG_FORMAT, LOG_LEVEL)

# --- the API -------------------------------------------------------------------------------------------------------

API_VERSION = "0.8.4"
API_OLDEST_VERSION = (0, 8, 0)
REFERENCE_VERSION = "3.8.8"
API_AUTH_STRING = env_text("PREFECT_SERVER_API_AUTH_STRING")
# Programs come in with keys of users (`manage.py api_key`); with an auth string set, they may as well.
API_KEYS_REQUIRED = env_bool("ORCHESTRATOR_REQUIRE_API_KEYS", default=False)
# Serve on other addresses than this machine's own without credentials: something in front authenticates.
ALLOW_UNAUTHENTICATED = env_bool("ORCHESTRATOR_ALLOW_UNAUTHENTICATED", default=False)
API_DEFAULT_LIMIT = env_int("PREFECT_SERVER_API_DEFAULT_LIMIT", "PREFECT_API_DEFAULT_LIMIT", default=200, at_least=1)
API_CSRF_PROTECTION = env_bool("PREFECT_SERVER_CSRF_PROTECTION_ENABLED", default=False)
API_CSRF_TOKEN_LIFETIME = env_seconds("PREFECT_SERVER_CSRF_TOKEN_EXPIRATION", default=3600)
API_CORS_ALLOWED_ORIGINS = env_text("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", default="*")
MAX_PARAMETER_BYTES = env_int("PREFECT_SERVER_API_MAX_PARAMETER_SIZE", default=524_288)

# The web UI that the reference's package carries, where that is installed.
UI_ENABLED = env_bool("PREFECT_SERVER_UI_ENABLED", "PREFECT_UI_ENABLED", default=True)
UI_API_URL = env_text("PREFECT_SERVER_UI_API_URL", "PREFECT_UI_API_URL")

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

# --- limits --------------------------------------------------------------------------------------------------------

TAG_SLOT_WAIT = env_seconds("PREFECT_SERVER_TASKS_TAG_CONCURRENCY_SLOT_WAIT_SECONDS", default=10)
LONGEST_SLOT_WAIT = env_seconds("PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS", default=30)
REPOSSESSOR_LOOP = env_seconds("PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS", default=15)

# --- runs ----------------------------------------------------------------------------------------------------------

CONCURRENCY_SLOT_WAIT = env_seconds("PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS", default=30)
DEPLOYMENT_LEASE = env_seconds("PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION", default=300)
LATE_RUNS_LOOP = env_seconds("PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS", default=5)
GRAPH_MAX_NODES = env_int("PREFECT_SERVER_FLOW_RUN_GRAPH_MAX_NODES", default=10_000, at_least=1)
GRAPH_MAX_ARTIFACTS = env_int("PREFECT_SERVER_FLOW_RUN_GRAPH_MAX_ARTIFACTS", default=10_000, at_least=1)
PAUSE_EXPIRATIONS_LOOP = env_seconds("PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_LOOP_SECONDS", default=5)
CANCELLATION_LOOP = env_seconds("PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_LOOP_SECONDS", default=20)
CANCELLING_TIMEOUT = env_seconds("PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_CANCELLING_TIMEOUT_SECONDS", default=300)
VACUUM_LOOP = env_seconds("PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS", default=3_600)
VACUUM_ENABLED = env_list("PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED", default=["events"])
RUN_RETENTION = env_seconds("PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD", default=90 * 86_400)
VACUUM_BATCH = env_int("PREFECT_SERVER_SERVICES_DB_VACUUM_BATCH_SIZE", default=200, at_least=1)
LATE_AFTER = env_seconds("PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS", default=15)

# --- pools, queues and workers -------------------------------------------------------------------------------------

_FOREMAN = "PREFECT_SERVER_SERVICES_FOREMAN_"
FOREMAN_LOOP = env_seconds(f"{_FOREMAN}LOOP_SECONDS", default=15)
WORKER_INACTIVITY_MULTIPLE = env_int(f"{_FOREMAN}INACTIVITY_HEARTBEAT_MULTIPLE", default=3, at_least=1)
WORKER_FALLBACK_HEARTBEAT = env_seconds(f"{_FOREMAN}FALLBACK_HEARTBEAT_INTERVAL_SECONDS", default=30)
DEPLOYMENT_POLLED_TIMEOUT = env_seconds(f"{_FOREMAN}DEPLOYMENT_LAST_POLLED_TIMEOUT_SECONDS", default=60)
QUEUE_POLLED_TIMEOUT = env_seconds(f"{_FOREMAN}WORK_QUEUE_LAST_POLLED_TIMEOUT_SECONDS", default=60)

# Background loops of `manage.py run_services`, lowest app first, each with the name it may be turned off by.
_LOOPS = [
    ("orchestrator.core.services.PlannerStatistics", ""),
    ("orchestrator.events.services.EventRetention", ""),
    ("orchestrator.concurrency.services.Repossessor", "REPOSSESSOR"),
    ("flowruns.services.LateRuns", "LATE_RUNS"),
    ("flowruns.services.PauseExpirations", "PAUSE_EXPIRATIONS"),
    ("flowruns.services.CancellationCleanup", "CANCELLATION_CLEANUP"),
    ("flowruns.services.RunRetention", ""),
    ("workqueues.services.Foreman", "FOREMAN"),
    ("deployments.services.Scheduler", ""),
    ("orchestrator.automations.services.Triggers", "TRIGGERS"),
    ("orchestrator.automations.services.Actions", "TRIGGERS"),
]
SERVICES = [path for path, name in _LOOPS if not name or env_bool(f"PREFECT_SERVER_SERVICES_{name}_ENABLED", default=True)]

# Websockets of `manage.py serve`: path and handler.
SOCKETS = {
    "/api/events/in": "orchestrator.events.sockets.take_in",
    "/api/events/out": "orchestrator.events.sockets.send_out",
    "/api/work_pools/{name}/workers/connect": "workqueues.sockets.connect",
    "/api/logs/out": "flowruns.sockets.logs_out",
    "/api/task_runs/subscriptions/scheduled": "flowruns.sockets.scheduled_task_runs",
}
# What a worker of `manage.py serve` calls last.
BEFORE_WORKER_ENDS = "orchestrator.events.intake.finish"
# Who else learns of events that clients sent, in the transaction that stores them.
EVENT_RECORDERS = ["flowruns.recording.record_task_runs"]

# --- events --------------------------------------------------------------------------------------------------------

EVENTS_RETENTION = env_seconds("PREFECT_SERVER_EVENTS_RETENTION_PERIOD", default=7 * 86_400)
EVENTS_MAX_BYTES = env_int("PREFECT_SERVER_EVENTS_MAXIMUM_SIZE_BYTES", default=1_500_000, at_least=1)
EVENTS_MAX_NAME = env_int("PREFECT_SERVER_EVENTS_MAXIMUM_EVENT_NAME_LENGTH", default=1_024, at_least=1)
EVENTS_MAX_LABELS = env_int("PREFECT_SERVER_EVENTS_MAXIMUM_LABELS_PER_RESOURCE", default=500, at_least=1)
EVENTS_MAX_RELATED = env_int("PREFECT_SERVER_EVENTS_MAXIMUM_RELATED_RESOURCES", default=100, at_least=1)
EVENTS_BACKFILL = env_seconds("PREFECT_SERVER_EVENTS_MAXIMUM_WEBSOCKET_BACKFILL", default=900)
PROACTIVE_GRANULARITY = env_seconds("PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY", default=5)
# Networks beside the public ones that webhooks and notifications may reach, such as 10.1.0.0/16.
WEBHOOK_ALLOWED_NETWORKS = env_list("ORCHESTRATOR_WEBHOOK_ALLOWED_NETWORKS", default=[])
EVENTS_STREAM_OUT = env_bool("PREFECT_SERVER_EVENTS_STREAM_OUT_ENABLED", default=True)

UNFOLD = {
    "SITE_TITLE": "Orchestrator",
    "SITE_HEADER": "Orchestrator",
    "SITE_URL": "/docs",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda request: "/favicon.ico"}],
    "DASHBOARD_CALLBACK": "orchestrator.console.dashboard.context",
    "SHOW_HISTORY": True,
    "SIDEBAR": {"show_search": True, "show_all_applications": True},
}
