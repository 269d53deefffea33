"""All benchmarks, one after another, each in a process of its own: `python -m benchmarks [NAME...] [--rounds N] [--json DIRECTORY]`.

Each prints its tables; with `--json` each writes `<NAME>.json` there. One that fails does not keep the others from being run, but fails the whole.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

NAMES = tuple(sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py")))
DIRECTORY = Path("build/benchmarks")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones (default: all of {', '.join(NAMES)})")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each measurement takes its turn (%(default)s)")
    parser.add_argument("--json", type=Path, default=DIRECTORY, metavar="DIRECTORY", help="where the numbers are written (%(default)s)")
    asked = parser.parse_args()
    unknown = sorted(set(asked.names) - set(NAMES))
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    failed = [name for name in asked.names or NAMES if not _run(name, asked.rounds, asked.json / f"{name}.json")]
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run(name: str, rounds: int, file: Path) -> bool:
    begun = time.perf_counter()
    command = [sys.executable, "-m", f"benchmarks.bench_{name}", "--rounds", str(rounds), "--json", str(file)]
    code = subprocess.run(command, cwd=Path(__file__).parents[1], check=False).returncode
    print(f"\n{name}: {time.perf_counter() - begun:.0f} s, numbers in {file}" if code == 0 else f"\n{name}: exit status {code}", flush=True)
    return code == 0


if __name__ == "__main__":
    sys.exit(main())
