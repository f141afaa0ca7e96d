"""`make bench`: how fast the whole path answers, against its own parts."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.text import Text

from deploy.bench import h2load, machine, plot, report
from deploy.bench.bench import Json, opened, run
from deploy.bench.load import LoadError
from deploy.bench.options import Options, parse
from deploy.bench.release import bench_release
from deploy.bench.servers import serving
from deploy.bench.verify import WrongAnswer
from deploy.demo.processes import ProcessError
from deploy.demo.screen import console as wide_console
from shopintent.artifacts import ReleasesRoot
from shopintent.client import ShopIntentError

INTERRUPTED = 130


def main() -> int:
    console, options = wide_console(), parse()
    # Ending the bench in any way ends its processes: finally blocks run.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        started = time.monotonic()
        found = bench(console, options)
        report.show(console, report.sections(found))
        written = write(found, options.out)
    except KeyboardInterrupt:
        console.print("stopped")
        return INTERRUPTED
    except (LoadError, ProcessError, WrongAnswer, ShopIntentError) as error:
        console.print("\n[bold red]the bench failed:[/]", Text(str(error)))
        return 1
    console.print(f"{' '.join(map(str, written))}: after {time.monotonic() - started:.0f} s")
    return 0


def bench(console: Console, options: Options) -> Json:
    """Starts everything, measures, and returns what the JSON file holds."""
    h2load.find()
    releases = (
        bench_release(console, options.out / "release")
        if options.release is None
        else ReleasesRoot(options.release)
    )
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
        "command": command(sys.argv[1:]),
        **found,
    }


def command(arguments: Sequence[str]) -> str:
    """Returns the command that measures the same again."""
    return "make bench" + (f" ARGS={shlex.quote(shlex.join(arguments))}" if arguments else "")


def write(found: Json, folder: Path) -> list[Path]:
    """Writes the results as JSON, Markdown and a picture; each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"serving.{kind}" for kind in ("json", "md", "png")]
    parts = [file.with_name(f".part.{file.name}") for file in files]
    parts[0].write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    parts[1].write_text(report.markdown(found, report.sections(found)), encoding="utf-8")
    plot.draw(found["rows"], parts[2])
    for part, file in zip(parts, files, strict=True):
        part.replace(file)
    return files


if __name__ == "__main__":
    sys.exit(main())
