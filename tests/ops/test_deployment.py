"""The image, docker-compose.yml, render.yaml and what belongs to them, compared with the code that they run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from models.fields import MAX_BULK_BYTES
from models.settings import Settings, load_settings
from ops.processes import API, BEAT, FLOWER, PROCESS_VARIABLES, SOCKET, WORKER, WORKER_CRITICAL

if TYPE_CHECKING:
    from collections.abc import Callable

Yaml = dict[str, Any]

ROOT = Path(__file__).parents[2]
COMPOSE: Yaml = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
RENDER: Yaml = yaml.safe_load((ROOT / "render.yaml").read_text(encoding="utf-8"))
PROMETHEUS: Yaml = yaml.safe_load((ROOT / "ops/prometheus.yml").read_text(encoding="utf-8"))
ALERTS: Yaml = yaml.safe_load((ROOT / "ops/alerts.yml").read_text(encoding="utf-8"))
NGINX = re.sub(r"#.*", "", (ROOT / "ops/nginx.conf").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")

SERVICES: dict[str, Yaml] = COMPOSE["services"]
RENDER_SERVICES: dict[str, Yaml] = {service["name"]: service for service in RENDER["services"]}
MIGRATE = ("python", "-m", "ops", "migrate")
SCHEDULE = ("-s", "/run/bellhop/beat-schedule")
COMMANDS = {
    "migrate": MIGRATE,
    "api": API,
    "socket-1": SOCKET,
    "socket-2": SOCKET,
    "worker": WORKER,
    "worker-critical": WORKER_CRITICAL,
    "beat": (*BEAT, *SCHEDULE),
    "flower": (*FLOWER, "--address=0.0.0.0", "--port=5555"),
}
RENDER_COMMANDS = {
    "bellhop-api": API,
    "bellhop-socket": SOCKET,
    "bellhop-worker": WORKER,
    "bellhop-worker-critical": WORKER_CRITICAL,
    "bellhop-beat": (*BEAT, *SCHEDULE),
    "bellhop-flower": (*FLOWER, "--address=0.0.0.0", "--port=10000"),
}
# What Render's documentation of Blueprints allows, as far as it concerns these kinds of service.
_DOCKER_KEYS = {"type", "name", "runtime", "plan", "dockerCommand", "envVars", "numInstances", "scaling"} | {
    "maxShutdownDelaySeconds",
    "preDeployCommand",
}
RENDER_KEYS = {
    "web": _DOCKER_KEYS | {"healthCheckPath"},
    "worker": _DOCKER_KEYS,
    "keyvalue": {"type", "name", "plan", "maxmemoryPolicy", "ipAllowList"},
    "database": {"name", "plan", "postgresMajorVersion", "ipAllowList"},
}
RENDER_SCALABLE_PLANS = {"standard", "pro", "pro plus", "pro max", "pro ultra"}
RENDER_CONNECTIONS = 97  # of a database with up to 6 GB of memory
SECRETS = {
    "POSTGRES_PASSWORD": "p" * 48,
    "BELLHOP_SECRET_KEY": "s" * 64,
    "BELLHOP_FLOWER_BASIC_AUTH": "me:hidden",
}


def image_environment() -> dict[str, str]:
    """Return what the Dockerfile's ENV sets."""
    block = re.search(r"^ENV ((?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)
    assert block
    return dict(word.split("=", 1) for word in block[1].replace("\\\n", " ").split())


def interpolated(value: str) -> str:
    """Fill in `${NAME:-default}` and `${NAME:?what to do}` as compose does, from the secrets alone."""

    def fill(match: re.Match[str]) -> str:
        default = match["rest"] if match["sign"] == "-" else ""
        return SECRETS.get(match["name"], default)

    return re.sub(r"\$\{(?P<name>\w+):(?P<sign>[-?])(?P<rest>[^}]*)\}", fill, value)


def compose_environment(name: str) -> dict[str, str]:
    given: dict[str, str] = SERVICES[name]["environment"]
    return image_environment() | {key: interpolated(value) for key, value in given.items()}


def render_environment(name: str) -> dict[str, str]:
    groups = {group["name"]: group["envVars"] for group in RENDER["envVarGroups"]}
    values = image_environment()
    for variable in RENDER_SERVICES[name]["envVars"]:
        for each in groups[variable["fromGroup"]] if "fromGroup" in variable else [variable]:
            values[each["key"]] = render_value(each)
    return values


def render_value(variable: Yaml) -> str:
    if "fromDatabase" in variable:
        assert variable["fromDatabase"]["name"] in {database["name"] for database in RENDER["databases"]}
        return "postgresql://user:password@host:5432/database"
    if "fromService" in variable:
        source = variable["fromService"]
        assert RENDER_SERVICES[source["name"]]["type"] == source["type"]
        return "redis://host:6379"
    return "g" * 44 if variable.get("generateValue") else str(variable["value"])


ENVIRONMENTS = [(compose_environment, name) for name in COMMANDS] + [
    (render_environment, name) for name in RENDER_COMMANDS
]
every_service = pytest.mark.parametrize(("environment", "name"), ENVIRONMENTS, ids=[name for _, name in ENVIRONMENTS])


def words(text: str) -> tuple[str, ...]:
    return tuple(shlex.split(text))


def targets() -> list[tuple[str, int]]:
    """Return the service and port of everything that Prometheus scrapes."""
    found = [
        target.rsplit(":", 1)
        for job in PROMETHEUS["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    ]
    return [(name, int(port)) for name, port in found]


def listens_on(name: str, environment: dict[str, str]) -> int:
    """Return the port on which a service of compose answers with its metrics."""
    settings = Settings.model_fields
    ports = {
        API: environment.get("BELLHOP_API_PORT", settings["api_port"].default),
        SOCKET: environment.get("BELLHOP_SOCKET_PORT", settings["socket_port"].default),
        COMMANDS["flower"]: COMMANDS["flower"][-1].removeprefix("--port="),
    }
    return int(ports.get(COMMANDS[name], environment.get("BELLHOP_METRICS_PORT", 0)))


# --- commands ---------------------------------------------------------------------------------------------------------


def test_compose_has_every_process_and_what_it_stands_on() -> None:
    assert set(SERVICES) == {*COMMANDS, "postgres", "valkey", "nginx", "prometheus"}


def test_every_command_of_compose_is_one_that_was_tried() -> None:
    assert {name: words(SERVICES[name]["command"]) for name in COMMANDS} == COMMANDS


def test_every_command_of_render_is_one_that_was_tried() -> None:
    given = {name: words(service["dockerCommand"]) for name, service in RENDER_SERVICES.items() if "runtime" in service}
    assert given == RENDER_COMMANDS
    assert words(RENDER_SERVICES["bellhop-api"]["preDeployCommand"]) == MIGRATE


# --- variables --------------------------------------------------------------------------------------------------------


@every_service
def test_every_variable_is_a_setting(environment: Callable[[str], dict[str, str]], name: str) -> None:
    known = {f"BELLHOP_{field.upper()}" for field in Settings.model_fields}
    given = {variable for variable in environment(name) if variable.startswith("BELLHOP_")}
    assert given <= known | set(PROCESS_VARIABLES)


@every_service
def test_every_service_starts_with_its_variables_in_production(
    environment: Callable[[str], dict[str, str]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for inherited in [variable for variable in os.environ if variable.startswith("BELLHOP_")]:
        monkeypatch.delenv(inherited)
    for variable, value in environment(name).items():
        monkeypatch.setenv(variable, value)
    settings = load_settings().require_servers()
    assert settings.env == "production"
    assert settings.host == "0.0.0.0"  # noqa: S104  # a container's own
    assert settings.trusted_proxies == ("*",)


@pytest.mark.parametrize("secret", SECRETS)
def test_compose_does_not_start_without_a_secret_and_says_what_to_do(secret: str) -> None:
    text = yaml.safe_dump(SERVICES, width=10_000)
    uses = re.findall(rf"\$\{{{secret}\b[^}}]*", text)
    assert uses
    assert all(re.fullmatch(rf"\$\{{{secret}:\?.+", use) for use in uses)


@pytest.mark.parametrize("name", ["bellhop-api", "bellhop-socket", "bellhop-flower"])
def test_a_web_service_listens_where_render_looks(name: str) -> None:
    environment = render_environment(name)
    variable = {"bellhop-api": "BELLHOP_API_PORT", "bellhop-socket": "BELLHOP_SOCKET_PORT"}.get(name)
    listening = environment[variable] if variable else RENDER_COMMANDS[name][-1].removeprefix("--port=")
    assert listening == environment["PORT"]


# --- compose ----------------------------------------------------------------------------------------------------------


def test_compose_keeps_to_its_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run(
        [*command, str(ROOT / "docker-compose.yml")], capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_only_this_machine_reaches_what_compose_publishes() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_everything_that_runs_on_in_compose_has_a_healthcheck_and_comes_back() -> None:
    for name, service in SERVICES.items():
        if name != "migrate":
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name
    assert SERVICES["migrate"]["restart"] == "no"


def test_a_healthcheck_asks_the_port_on_which_its_process_listens() -> None:
    for name in [name for name in COMMANDS if name != "migrate"]:
        asked = re.search(r"http://127\.0\.0\.1:(\d+)/", SERVICES[name]["healthcheck"]["test"][-1])
        assert asked, name
        assert int(asked[1]) == listens_on(name, compose_environment(name))


def test_a_process_waits_for_what_it_needs() -> None:
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            once = needed == "migrate"
            assert how["condition"] == ("service_completed_successfully" if once else "service_healthy"), name
    assert all("migrate" in SERVICES[name]["depends_on"] for name in COMMANDS if name != "migrate")


def test_a_socket_node_has_time_to_send_its_clients_away() -> None:
    grace_s = int(SERVICES["socket-1"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > Settings.model_fields["drain_s"].default + 5
    assert RENDER_SERVICES["bellhop-socket"]["maxShutdownDelaySeconds"] >= grace_s


def test_the_broker_forgets_nothing_on_its_own() -> None:
    assert "--maxmemory-policy noeviction" in SERVICES["valkey"]["command"]
    assert RENDER_SERVICES["bellhop-valkey"]["maxmemoryPolicy"] == "noeviction"


def test_metrics_of_worker_children_begin_anew_with_their_container() -> None:
    emptied = {mount.split(":")[0] for mount in SERVICES["worker"]["tmpfs"]}
    for name in ("worker", "worker-critical"):
        assert compose_environment(name)["PROMETHEUS_MULTIPROC_DIR"] in emptied
    assert Path(SCHEDULE[1]).parent.as_posix() in emptied


# --- the image --------------------------------------------------------------------------------------------------------


def test_the_image_holds_only_what_was_locked_and_runs_as_nobody_in_particular() -> None:
    assert "--require-hashes -r requirements.lock" in DOCKERFILE
    user = re.search(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE)
    assert user
    assert f"uid={user[1]}" in " ".join(SERVICES["api"]["tmpfs"])


def test_every_package_of_the_project_gets_into_the_image() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert let_in == {*packages, "requirements.lock"}


# --- nginx ------------------------------------------------------------------------------------------------------------


def test_nginx_passes_on_to_services_that_exist() -> None:
    servers = set(re.findall(r"^\s*server ([\w-]+):(\d+) resolve(?: max_fails=0)?;", NGINX, re.MULTILINE))
    assert {name for name, _ in servers} == {"api", "socket-1", "socket-2"}
    for name, port in servers:
        assert int(port) == listens_on(name, compose_environment(name))


def test_every_socket_node_is_in_both_of_nginxs_lists() -> None:
    lists = re.findall(r"upstream sockets_\w+ {(.*?)}", NGINX, re.DOTALL)
    assert len(lists) == 2
    for each in lists:
        nodes = {name for name in COMMANDS if name.startswith("socket-")}
        # One refusal while a node is restarted must not keep clients from it: nginx.conf says why.
        assert set(re.findall(r"server ([\w-]+):\d+ resolve max_fails=0;", each)) == nodes


def test_nginx_shows_the_api_and_keeps_its_metrics_to_itself() -> None:
    shown = set(re.findall(r"location (?:= )?(\S+) {\s*proxy_pass", NGINX))
    assert shown == {"/socket.io/", "/v1/", "/docs", "/openapi.json", "/asyncapi.json", "/health/"}
    assert re.search(r"location / {\s*return 404;", NGINX)


def test_nginx_leaves_it_to_the_api_to_refuse_a_large_body() -> None:
    limit = re.search(r"client_max_body_size (\d+)m;", NGINX)
    assert limit
    assert int(limit[1]) * 1024 * 1024 > MAX_BULK_BYTES


# --- Prometheus -------------------------------------------------------------------------------------------------------


def test_prometheus_scrapes_every_process_where_it_listens() -> None:
    assert {name for name, _ in targets()} == set(COMMANDS) - {"migrate"}
    for name, port in targets():
        assert port == listens_on(name, compose_environment(name))


def test_every_metric_of_the_alerts_exists() -> None:
    # In a process of its own: the default registry takes each metric once.
    code = """
import json
from prometheus_client import REGISTRY
from flower.events import get_prometheus_metrics
from api.main import create_app
from models.settings import Settings
create_app(Settings(database_url="postgresql://nowhere/none", redis_url="redis://nowhere", secret_key="s" * 32))
get_prometheus_metrics()
print(json.dumps(sorted(REGISTRY._names_to_collectors)))
"""
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    known = {*json.loads(output.stdout), "up"}
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    for rule in rules:
        assert metrics_of(rule["expr"]) <= known, rule["alert"]
    assert set().union(*(metrics_of(rule["expr"]) for rule in rules)) >= {"up", "bellhop_outbox_age_seconds"}


def metrics_of(expression: str) -> set[str]:
    """Return the names in a PromQL expression that are neither functions, nor operators, nor labels."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]', " ", re.sub(r'"[^"]*"', '""', expression))
    bare = re.sub(r"\b(?:by|on|ignoring|group_left|group_right|without)\s*\([^)]*\)", " ", bare)
    bare = re.sub(r"\boffset\s+\w+", " ", bare)
    names = re.findall(r"\b([a-z_]\w*)\b(?!\s*\()", bare)
    return set(names) - {"or", "and", "unless", "sum", "max", "min", "group_left", "group_right"}


def test_every_alert_says_what_to_do() -> None:
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    assert PROMETHEUS["rule_files"] == ["alerts.yml"]
    for rule in rules:
        assert rule["labels"]["severity"] in {"page", "ticket"}, rule["alert"]
        assert rule["annotations"].keys() == {"summary", "action"}, rule["alert"]


# --- Render -----------------------------------------------------------------------------------------------------------


def test_the_blueprint_uses_only_documented_fields() -> None:
    assert RENDER.keys() == {"databases", "envVarGroups", "services"}
    for service in RENDER["services"]:
        assert service.keys() <= RENDER_KEYS[service["type"]], service["name"]
        assert service["type"] == "keyvalue" or service["runtime"] == "docker"
    for database in RENDER["databases"]:
        assert database.keys() <= RENDER_KEYS["database"]
    for group in RENDER["envVarGroups"]:
        assert group.keys() == {"name", "envVars"}
        for variable in group["envVars"]:  # a group can refer to nothing
            assert variable.keys() in ({"key", "value"}, {"key", "generateValue"})


def test_what_scales_has_a_plan_for_it_and_beat_never_does() -> None:
    scaled = {name: service for name, service in RENDER_SERVICES.items() if "scaling" in service}
    assert scaled.keys() == {"bellhop-api", "bellhop-socket", "bellhop-worker", "bellhop-worker-critical"}
    assert all(service["plan"] in RENDER_SCALABLE_PLANS for service in scaled.values())
    assert RENDER_SERVICES["bellhop-beat"]["numInstances"] == 1


def test_render_has_enough_connections_for_all_instances_while_a_deploy_replaces_them() -> None:
    pool = int(render_environment("bellhop-api")["BELLHOP_DATABASE_POOL_SIZE"])
    per_instance = {"bellhop-api": pool, "bellhop-socket": pool}
    for name in ("bellhop-worker", "bellhop-worker-critical"):
        command = RENDER_COMMANDS[name]
        per_instance[name] = int(command[command.index("-c") + 1])
    most = sum(RENDER_SERVICES[name]["scaling"]["maxInstances"] * each for name, each in per_instance.items())
    assert 2 * most <= RENDER_CONNECTIONS


def test_nothing_from_outside_reaches_the_stores_of_render() -> None:
    for store in (*RENDER["databases"], RENDER_SERVICES["bellhop-valkey"]):
        assert store["ipAllowList"] == []
