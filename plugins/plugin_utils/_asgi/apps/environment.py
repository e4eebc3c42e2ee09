# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The environment of an application: what the inventory says, what its description says by itself, and what the topology adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import App, Wrong, check_strings, is_a
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import ENV_NAME, value_problem


def check(app: App, wrong: Wrong) -> None:
    """The variables and secrets of the inventory."""
    for where in ("env", "secrets"):
        for key, value in app[where].items():
            if not is_a(key, str) or not ENV_NAME.fullmatch(key):
                wrong(f"{where}: '{key}' is not a name of an environment variable")
            elif problem := value_problem(key, value):
                wrong(f"{where}.{key}{problem}")
    for key in sorted(set(app["env"]) & set(app["secrets"]), key=str):
        wrong(f"{key} stands in env and in secrets; keep it in secrets alone")


def complete_required(app: App, wrong: Wrong) -> None:
    """The secrets without which nothing starts, once it is known whether there is a database."""
    check_strings(app, "required_secrets", wrong)
    if app["required_secrets"] is None:
        app["required_secrets"] = (["SECRET_KEY"] if app["framework"] == "django" else []) + (
            ["DATABASE_PASSWORD"] if app["database"] else []
        )
    for key in app["required_secrets"]:
        if app["secrets"].get(key) is None or not str(app["secrets"][key]).strip():
            wrong(f"secrets.{key} is required and not set")


def add_variables(app: App, added: Mapping[str, Any]) -> None:
    """All of it; what the inventory says wins over the topology, and that over the description."""
    app["public_env"] = {**_described(app), **added.get("env", {}), **app["env"]}
    if app["asgi_middleware"]:
        app["callable"] = "vivarium_asgi:application"
    # DATABASE_PASSWORD reaches the application as a part of DATABASE_URL only.
    app["secret_env"] = {
        **added.get("secrets", {}),
        **{k: v for k, v in app["secrets"].items() if k != "DATABASE_PASSWORD"},
    }


def _described(app: App) -> dict[str, str]:
    """What the application's description alone says about its environment, under Django's own setting names."""
    env: dict[str, str] = {}
    if app["asgi_middleware"]:
        env |= {
            "VIVARIUM_ASGI_APPLICATION": app["callable"],
            "VIVARIUM_ASGI_MIDDLEWARE": ",".join(app["asgi_middleware"]),
        }
    if app["root_path"]:
        env["VIVARIUM_ROOT_PATH"] = app["root_path"]
    if app["framework"] != "django":
        return env
    if app["root_path"]:
        env["FORCE_SCRIPT_NAME"] = app["root_path"]
    if app["vivarium_settings"]:
        env |= {"VIVARIUM_PROJECT_SETTINGS": app["settings"], "CACHE_KEY_PREFIX": app["name"]}
    env |= app["hsts_env"]
    env |= {
        "DJANGO_SETTINGS_MODULE": "vivarium_settings" if app["vivarium_settings"] else app["settings"],
        # What int(), bool() of a library and a comparison with "True" take alike.
        "DEBUG": "0",
        # A wildcard as Django writes it.
        "ALLOWED_HOSTS": ",".join(domain.removeprefix("*") for domain in app["domains"]),
    }
    if app["static_url"]:
        env["STATIC_URL"] = app["static_url"]
    if app["media_url"]:
        env |= {"MEDIA_URL": app["media_url"], "MEDIA_ROOT": f"{app['root']}/media"}
    return env
