"""deploy/: what the container files name exists, and only what may be open is open."""

import configparser
import http.server
import re
import stat
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from shopintent.artifacts import ReleasesRoot
from shopintent.server.__main__ import main as server_command
from shopintent.trainer.__main__ import app as trainer_app

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILES = sorted((DEPLOY / "docker").glob("*.Dockerfile"))
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ENTRYPOINT = DEPLOY / "docker" / "triton-entrypoint.sh"
SERVER = ROOT / "server" / "shopintent" / "server"


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile in order, each as its name and the rest of its line."""
    text = dockerfile.read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    parts = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return [(name, rest.strip()) for name, _, rest in parts]


def known_variables() -> set[str]:
    """Every SHOPINTENT_ variable that the server or the entrypoint of Triton reads."""
    config = (SERVER / "config.py").read_text()
    options = re.findall(r"^    (\w+): [^=\n]+ = _option\(", config, flags=re.MULTILINE)
    assert "triton_address" in options, "config.py no longer lists its options as this test reads"
    entrypoint = re.findall(r"\$\{(SHOPINTENT_[A-Z_]+)", ENTRYPOINT.read_text())
    return {f"SHOPINTENT_{option.upper()}" for option in options} | set(entrypoint)


def test_there_is_an_image_of_each_program() -> None:
    names = [path.name for path in DOCKERFILES]
    assert names == ["server.Dockerfile", "trainer.Dockerfile", "triton.Dockerfile"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_what_a_dockerfile_copies_exists_and_reaches_the_builder(dockerfile: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    for name, rest in instructions(dockerfile):
        if name == "COPY" and "--from=" not in rest:
            *sources, _ = [word for word in rest.split() if not word.startswith("--")]
            for source in sources:
                assert (ROOT / source).exists(), source
                assert source.split("/")[0] in sent, source


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_no_image_runs_as_root(dockerfile: Path) -> None:
    users = [rest for name, rest in instructions(dockerfile) if name == "USER"]
    assert users
    assert users[-1] not in ("root", "0")


def test_the_server_image_holds_no_training_code() -> None:
    copied = [rest for name, rest in instructions(DEPLOY / "docker" / "server.Dockerfile")]
    assert not [rest for rest in copied if "trainer" in rest or "torch" in rest]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfile_sets_only_variables_that_are_read(dockerfile: Path) -> None:
    environment = " ".join(rest for name, rest in instructions(dockerfile) if name == "ENV")
    assert set(re.findall(r"SHOPINTENT_[A-Z_]+", environment)) <= known_variables()


def test_compose_sets_only_variables_that_are_read() -> None:
    used = {name for service in SERVICES.values() for name in service.get("environment", {})}
    assert "SHOPINTENT_TRITON_ADDRESS" in used
    assert used <= known_variables()


def test_compose_builds_from_dockerfiles_that_exist() -> None:
    built = [service["build"] for service in SERVICES.values() if "build" in service]
    assert len(built) == 5
    for build in built:
        context = (DEPLOY / build["context"]).resolve()
        assert context == ROOT
        assert context / build["dockerfile"] in DOCKERFILES


def test_compose_takes_no_settings_that_the_env_file_does_not_list() -> None:
    used = set(re.findall(r"\$\{([A-Z_]+)", (DEPLOY / "compose.yaml").read_text()))
    listed = set(re.findall(r"^([A-Z_]+)=", (DEPLOY / ".env").read_text(), flags=re.MULTILINE))
    assert used <= listed
    assert "COMPOSE_PROFILES" in listed


def test_every_published_port_is_open_to_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert "127.0.0.1:50051:50051" in ports
    assert not [port for port in ports if not str(port).startswith("127.0.0.1:")]


def test_services_wait_only_for_what_can_become_true() -> None:
    for service in SERVICES.values():
        for name, condition in service.get("depends_on", {}).items():
            other = SERVICES[name]
            if condition["condition"] == "service_healthy":
                assert "test" in other.get("healthcheck", {}) or checks_health(other)
            # What another profile starts may be absent.
            assert condition.get("required", True) != bool(other.get("profiles"))


def checks_health(service: dict[str, Any]) -> bool:
    dockerfile = ROOT / service["build"]["dockerfile"]
    return any(name == "HEALTHCHECK" for name, _ in instructions(dockerfile))


def test_named_volumes_are_declared() -> None:
    mounted = {volume.split(":")[0] for s in SERVICES.values() for volume in s.get("volumes", [])}
    # "${RELEASES:-releases}" is cut at its colon.
    assert mounted == {"${RELEASES", "qdrant", "state"}
    assert set(COMPOSE["volumes"]) == {"releases", "qdrant", "state"}


def test_the_server_may_write_to_what_it_changes_and_triton_to_nothing() -> None:
    server = SERVICES["server"]["volumes"]
    assert {volume.rsplit(":", 1)[1] for volume in server} == {"/srv/releases", "/srv/state"}
    for name in ("triton", "triton-gpu"):
        assert all(volume.endswith(":ro") for volume in SERVICES[name]["volumes"])


def test_the_server_is_given_the_key_of_triton_and_the_tokens_of_its_callers() -> None:
    environment = SERVICES["server"]["environment"]
    assert "SHOPINTENT_TRITON_MODEL_CONTROL_KEY" in environment
    assert "SHOPINTENT_RELEASE_TOKEN" in environment
    assert "SHOPINTENT_VISITOR_TOKEN" in environment


def test_qdrant_and_its_client_are_of_one_minor_version() -> None:
    image = re.search(r"qdrant:v(\d+\.\d+)\.\d+", SERVICES["qdrant"]["image"])
    lock = (ROOT / "requirements.lock").read_text()
    client = re.search(r"^qdrant-client==(\d+\.\d+)\.", lock, flags=re.MULTILINE)
    assert image
    assert client
    assert image[1] == client[1]


def test_the_images_call_subcommands_that_the_server_has() -> None:
    health = dict(instructions(DEPLOY / "docker" / "server.Dockerfile"))["HEALTHCHECK"]
    assert 'CMD ["shopintent-server", "health"]' in health
    for command in ("serve", "health", *SERVICES["load-index"]["command"]):
        with pytest.raises(SystemExit) as ended:
            server_command([command, "--help"])
        assert ended.value.code == 0


@pytest.mark.parametrize(("status", "exit_code"), [(200, 0), (503, 1)])
def test_the_health_check_of_qdrant_tells_ready_from_not(status: int, exit_code: int) -> None:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    _, *command = SERVICES["qdrant"]["healthcheck"]["test"]
    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        # $$ is how compose spells $.
        script = command[-1].replace("/6333", f"/{server.server_port}").replace("$$", "$")
        done = subprocess.run([*command[:-1], script], timeout=10, check=False)
        server.shutdown()
    assert done.returncode == exit_code


def run_entrypoint(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the entrypoint of Triton with a tritonserver that prints its arguments."""
    program = tmp_path / "bin" / "tritonserver"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    variables = {"PATH": f"{program.parent}:/usr/bin:/bin", "SHOPINTENT_RELEASES": str(tmp_path)}
    return subprocess.run(
        [ENTRYPOINT, "--log-verbose=1"],
        env=variables | environment,
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )


def test_triton_loads_the_models_of_the_current_release_and_guards_the_repository(
    tmp_path: Path,
) -> None:
    ReleasesRoot(tmp_path).set_current("r7")
    done = run_entrypoint(tmp_path, SHOPINTENT_TRITON_MODEL_CONTROL_KEY="0123456789abcdef")
    arguments = done.stdout.splitlines()
    loaded = [argument for argument in arguments if argument.startswith("--load-model=")]
    assert loaded == [f"--load-model={m}_r7" for m in ("intent", "text_encoder", "product_encoder")]
    assert f"--model-repository={tmp_path}/model_repository" in arguments
    assert "--model-control-mode=explicit" in arguments
    assert "--log-verbose=1" in arguments
    restricted = [argument for argument in arguments if "restricted" in argument]
    assert len(restricted) == 2
    for argument in restricted:
        assert argument.endswith(":shopintent-model-control=0123456789abcdef")


def test_without_a_key_triton_makes_one_that_nobody_knows(tmp_path: Path) -> None:
    done = run_entrypoint(tmp_path, SHOPINTENT_RELEASE="r8")
    assert "--load-model=intent_r8" in done.stdout
    assert re.search(r"--grpc-restricted-protocol=.*=[0-9a-f]{48}\n", done.stdout)


def test_before_the_first_release_triton_says_what_to_do(tmp_path: Path) -> None:
    done = run_entrypoint(tmp_path)
    assert done.returncode == 1
    assert "publish a release first" in done.stderr


def test_the_entrypoint_of_triton_can_be_run() -> None:
    assert ENTRYPOINT.stat().st_mode & stat.S_IXUSR


SCHEDULE = DEPLOY / "schedule"


def run_refresh(tmp_path: Path, *, failing: str = "-", **settings: str) -> list[list[str]]:
    """Runs the scheduled refresh with programs that only note what they are asked to do.

    The program fails whose command is named.
    """
    bin_folder, calls = tmp_path / "bin", tmp_path / "calls"
    bin_folder.mkdir()
    for name in ("shopintent-trainer", "shopintent-server"):
        program = bin_folder / name
        program.write_text(
            f'#!/bin/sh\n(printf "%s\\037" {name} "$@"; echo) >> "{calls}"\n'
            f'[ "$1" != "{failing}" ]\n'
        )
        program.chmod(0o755)
    variables = {
        "PATH": f"{bin_folder}:/usr/bin:/bin",
        "SHOPINTENT_RELEASES": str(tmp_path / "releases"),
        "SHOPINTENT_STATE_PATH": str(tmp_path / "state"),
    }
    done = subprocess.run(
        [SCHEDULE / "refresh.sh"],
        env=variables | settings,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode == 0) == (failing == "-"), done.stderr
    return [line.split("\037")[:-1] for line in calls.read_text().splitlines()]


def test_the_scheduled_refresh_ends_in_a_canary_and_promotes_nothing(tmp_path: Path) -> None:
    calls = run_refresh(tmp_path, REFRESH_REPLAY="old data", REFRESH_RELEASE="r9")
    assert [call[1] for call in calls] == ["prepare", "update", "evaluate", "publish", "releases"]
    prepare, update, _, publish, canary = calls
    assert prepare[2:5] == [f"{tmp_path}/state/event-log", "--mapping", "events"]
    assert update[-2:] == ["--replay", "old data"]
    assert "--no-promote" in publish
    assert canary[2:4] == ["canary", "r9"]


@pytest.mark.parametrize("refused", ["prepare", "update", "evaluate", "publish"])
def test_nothing_follows_a_step_of_the_refresh_that_refuses(tmp_path: Path, refused: str) -> None:
    calls = run_refresh(tmp_path, failing=refused)
    assert calls[-1][1] == refused


def test_the_refresh_gives_the_trainer_and_the_server_options_that_they_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for program, *arguments in run_refresh(tmp_path, REFRESH_REPLAY="old"):
        if program == "shopintent-trainer":
            # An option that the trainer does not know fails before the help is shown.
            done = CliRunner().invoke(trainer_app, [*arguments, "--help"])
            assert done.exit_code == 0, done.output
            continue
        with pytest.raises(SystemExit) as ended:
            server_command([*arguments, "--help"])
        assert ended.value.code == 0
        told = capsys.readouterr().out
        assert all(each in told for each in arguments if each.startswith("--"))


def test_the_refresh_is_scheduled_by_a_unit_that_runs_it_gently() -> None:
    units = {suffix: configparser.RawConfigParser(strict=False) for suffix in ("service", "timer")}
    for suffix, unit in units.items():
        unit.optionxform = str  # type: ignore[assignment, method-assign]
        unit.read(SCHEDULE / f"shopintent-refresh.{suffix}")
    assert units["timer"]["Timer"]["OnCalendar"]
    service = units["service"]["Service"]
    program = ROOT / Path(service["ExecStart"]).relative_to("/opt/shopintent/src")
    assert program.stat().st_mode & stat.S_IXUSR
    assert service["Type"] == "oneshot"
    assert int(service["Nice"]) > 0
