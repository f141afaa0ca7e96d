"""Who may import whom, as pyproject.toml says; and that the rules can be broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def lint_imports(config: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    command = [str(program), "--config", str(config), "--no-cache"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_import_rule_is_kept() -> None:
    done = lint_imports(ROOT / "pyproject.toml")
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_a_forbidden_import_is_noticed(tmp_path: Path) -> None:
    """The checker sees our namespace: a rule against an import that exists is broken."""
    config = tmp_path / "importlinter.toml"
    config.write_text(
        "[tool.importlinter]\n"
        'root_packages = ["shopintent.server", "shopintent.behavior"]\n'
        "[[tool.importlinter.contracts]]\n"
        'name = "planted"\n'
        'type = "forbidden"\n'
        'source_modules = ["shopintent.server.hydrate"]\n'
        'forbidden_modules = ["shopintent.behavior"]\n'
    )
    done = lint_imports(config)
    assert done.returncode != 0
    assert "planted BROKEN" in done.stdout
