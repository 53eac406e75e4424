"""What the server knows of types of workers: served to clients that ask how to make a pool.

A worker whose class is installed where it runs brings its own template; this is for everybody else. Contract:
work_pools_queues_workers.md, section 11.
"""

from __future__ import annotations

from typing import Any

PROCESS_VARIABLES: dict[str, Any] = {
    "name": {"title": "Name", "description": "The name of a run's infrastructure.", "type": "string"},
    "env": {
        "title": "Environment Variables",
        "description": "Variables to set in a run's environment.",
        "type": "object",
        "additionalProperties": {"type": "string"},
    },
    "labels": {
        "title": "Labels",
        "description": "Labels for a run's infrastructure.",
        "type": "object",
        "additionalProperties": {"type": "string"},
    },
    "command": {
        "title": "Command",
        "description": "The command that starts a run. Left empty, the worker uses its own.",
        "type": "string",
    },
    "stream_output": {
        "title": "Stream Output",
        "description": "Whether the worker shows what a run prints.",
        "type": "boolean",
        "default": True,
    },
    "working_dir": {
        "title": "Working Directory",
        "description": "Where a run's process starts. Left empty, a temporary folder is made.",
        "type": "string",
        "format": "path",
    },
}

PROCESS = {
    "type": "process",
    "display_name": "Process",
    "description": "Runs each flow run as a subprocess of the worker.",
    "documentation_url": "https://docs.prefect.io/latest/deploy/infrastructure-concepts/workers",
    "install_command": "pip install prefect",
    "is_beta": False,
    "logo_url": "",
    "default_base_job_configuration": {
        "job_configuration": {
            name: f"{{{{ {name} }}}}" for name in ("command", "env", "labels", "name", "stream_output", "working_dir")
        },
        "variables": {"type": "object", "properties": PROCESS_VARIABLES},
    },
}

# View → document. Nothing is fetched from anywhere.
VIEWS: dict[str, dict[str, Any]] = {
    "aggregate-worker-metadata": {"prefect": {"process": PROCESS}},
    "aggregate-block-metadata": {},
    "aggregate-flow-metadata": {},
    "demo-flows": {},
}
