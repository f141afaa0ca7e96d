"""`make bench`: how fast the whole path answers, against its own parts."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from deploy.bench import h2load, machine, plot, program, report
from deploy.bench.bench import Json, opened, run
from deploy.bench.options import Options, parse
from deploy.bench.servers import serving


def main() -> int:
    options = parse()

    def work(console: Console) -> list[Path]:
        found = bench(console, options)
        report.show(console, report.sections(found))
        return write(found, options.out)

    return program.run(work)


def bench(console: Console, options: Options) -> Json:
    """Starts everything, measures, and returns what the JSON file holds."""
    h2load.find()
    releases = program.releases_of(console, options.release, options.out)
    with (
        console.status("") as status,
        serving(
            releases,
            options.products,
            options.out,
            server_options=options.server_options,
            say=status.update,
        ) as servers,
    ):
        status.stop()
        with opened(console, options, servers) as ready:
            found = run(ready)
    return {
        "commit": machine.commit(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": program.command("bench"),
        **found,
    }


def write(found: Json, folder: Path) -> list[Path]:
    """Writes the results as JSON, Markdown and a picture, all or none."""
    text = report.markdown(found, report.sections(found))
    return program.write_all(
        folder,
        {
            "serving.json": lambda part: part.write_text(json.dumps(found, indent=2) + "\n"),
            "serving.md": lambda part: part.write_text(text, encoding="utf-8"),
            "serving.png": lambda part: plot.draw(found["rows"], part),
        },
    )


if __name__ == "__main__":
    sys.exit(main())
