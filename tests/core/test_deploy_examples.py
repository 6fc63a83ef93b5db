"""examples/deploy and the commands of the pages: what can be checked of them without Docker and without systemd."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import typer
import yaml

from safevlm_sdk.command.app import app, export_app

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "examples" / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
UNIT = (DEPLOY / "safevlm.service").read_text(encoding="utf-8")
PAGES = ("gate", "robots")


def instruction(name):
    """The words of an instruction of the Dockerfile in its JSON form; that of HEALTHCHECK is indented."""
    return json.loads(re.search(rf"^{name} (\[.*\])$", DOCKERFILE, re.MULTILINE)[1])


def settings(section):
    """Every `name=value` of a section of the unit; a name that comes twice has two values."""
    lines = re.search(rf"^\[{section}\]\n(.*?)(?=^\[|\Z)", UNIT, re.MULTILINE | re.DOTALL)[1].splitlines()
    found = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, value = line.split("=", 1)
            found.setdefault(name, []).append(value)
    return found


def parsed(words):
    """The options that a command line of ours means; it is refused here if one of them does not exist."""
    program, *arguments = (re.sub(r"\$\{[^}]*\}", "http://127.0.0.1:1", word) for word in words)
    root = typer.main.get_command({"safevlm": app, "safevlm-export": export_app}[Path(program).name])
    command = root
    while hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    return command.make_context(program, list(arguments)).params


def page_commands(page):
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = (line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines())
    return [line for line in lines if line.startswith("safevlm")]


@pytest.mark.parametrize("line", [line for page in PAGES for line in page_commands(page)])
def test_every_command_of_the_pages_is_ours(line):
    words = shlex.split(line, comments=True)
    if "--version" not in words:
        parsed(words)


def test_a_command_with_an_option_that_does_not_exist_is_found():
    with pytest.raises(Exception, match="No such option"):
        parsed(["safevlm", "serve", "--upstream", "http://a", "--starter", "--no-such-option"])


def test_the_container_is_nobody_and_serves_a_pinned_bundle():
    gate = COMPOSE["services"]["gate"]
    options = parsed([*instruction("ENTRYPOINT"), *gate["command"]])
    assert (options["host"], options["port"]) == ("0.0.0.0", 8787)
    assert options["upstream"] == "http://model:8000"
    assert [str(path) for path in options["bundle"]] == ["/bundle"]
    assert options["digest"]
    assert re.search(r"^USER [1-9]\d*$", DOCKERFILE, re.MULTILINE)
    assert "ENV ORT_DISABLE_TELEMETRY=1" in DOCKERFILE
    assert gate["read_only"] is True
    assert gate["cap_drop"] == ["ALL"]
    assert gate["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "pids_limit", "tmpfs"} <= set(gate)
    assert str(options["log"].parent) in [volume.split(":")[1] for volume in gate["volumes"]]
    assert (ROOT / "examples/deploy" / gate["build"]["context"]).resolve() == ROOT
    assert (ROOT / gate["build"]["dockerfile"]).is_file()


def test_what_the_image_is_made_of_is_there():
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    assert all((ROOT / name).exists() for names in copied for name in names.split())
    packages = re.search(r"wheel\]\npackages = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL)[1]
    tops = {path.split("/")[0] for path in re.findall(r'"([^"]+)"', packages)}
    assert tops <= {name for names in copied for name in names.split()}


def test_only_the_gate_reaches_the_model():
    gate, model = COMPOSE["services"]["gate"], COMPOSE["services"]["model"]
    assert gate["ports"] == ["127.0.0.1:8787:8787"]
    assert "ports" not in model
    assert model["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert gate["depends_on"]["model"]["condition"] == "service_healthy"
    assert model["healthcheck"]["test"][0] == "CMD"
    assert set(COMPOSE["volumes"]) == {"decisions"}


def test_the_unit_serves_a_pinned_bundle_with_few_rights():
    service = settings("Service")
    (line,) = service["ExecStart"]
    options = parsed(shlex.split(line))
    assert options["digest"]
    assert options["host"] == "127.0.0.1"
    assert str(options["log"].parent) == f"/var/log/{service['LogsDirectory'][0]}"
    assert {name for name in re.findall(r"\$\{(\w+)\}", line)} == set(re.findall(r"^# +(SAFEVLM_\w+)=", UNIT, re.M))
    assert service["Environment"] == ["ORT_DISABLE_TELEMETRY=1"]
    yes = (
        "NoNewPrivileges ProtectHome PrivateTmp PrivateDevices RestrictNamespaces MemoryDenyWriteExecute DynamicUser"
    )
    assert all(service[name] == ["yes"] for name in yes.split())
    assert service["ProtectSystem"] == ["strict"]
    assert service["CapabilityBoundingSet"] == [""]
    assert (service["IPAddressDeny"], service["IPAddressAllow"]) == (["any"], ["localhost"])
    assert {"MemoryMax", "TasksMax"} <= set(service)


class Ready(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(self.server.status if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_asks_whether_requests_can_be_served(status, code):
    _, *arguments = instruction(" +CMD")
    with HTTPServer(("127.0.0.1", 0), Ready) as server:
        server.status = status
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        words = [word.replace("8787", str(server.server_address[1])) for word in arguments]
        try:
            done = subprocess.run([sys.executable, *words], check=False, timeout=60)
        finally:
            server.shutdown()
            thread.join()
    assert done.returncode == code
