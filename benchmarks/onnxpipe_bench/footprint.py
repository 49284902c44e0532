"""What a lean installation weighs: site-packages, import time, and the memory and time to a first answer.

    python -m onnxpipe_bench.footprint BUNDLE --python LEAN_PYTHON [--repeats 11]

LEAN_PYTHON is the interpreter of an environment with nothing but `pip install '.[cpu]'`. Every figure is the median
over fresh processes.
"""

import argparse
import json
import statistics
import subprocess
from pathlib import Path
from typing import Any

from onnxpipe.bundle import open_bundle
from onnxpipe_bench.measure import write_result

# in a fresh process: seconds to import, then to load and answer once, and the peak memory of all of it
_PROBE = """
import json, sys, sysconfig, time
begin = time.perf_counter()
import onnxpipe
imported = time.perf_counter()
bundle, precision = sys.argv[1:]
onnxpipe.load(bundle, task="feature-extraction", precision=precision)("That is a happy person")
answered = time.perf_counter()
# not ru_maxrss, which starts with that of the process that forked
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "site_packages": sysconfig.get_paths()["purelib"],
    "import_ms": 1e3 * (imported - begin),
    "first_answer_ms": 1e3 * (answered - imported),
    "peak_memory_mb": int(status["VmHWM"].split()[0]) / 1024,
}))
"""


def main() -> None:
    """Measure every precision of a bundle and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--python", required=True)
    parser.add_argument("--repeats", type=int, default=11)
    args = parser.parse_args()
    python, bundle = str(Path(args.python).absolute()), str(Path(args.bundle).absolute())
    rows, imports = [], []
    for precision in open_bundle(bundle).manifest.variants:
        probes = [_probe(python, bundle, precision) for _ in range(args.repeats)]
        imports += [probe["import_ms"] for probe in probes]
        row = {"precision": precision}
        for name in ("first_answer_ms", "peak_memory_mb"):
            row[name] = round(statistics.median(probe[name] for probe in probes), 1)
        rows.append(row)
    size = site_packages_mb(Path(probes[0]["site_packages"]))
    result = {"site_packages_mb": round(size, 1), "import_ms": round(statistics.median(imports), 1), "rows": rows}
    print(json.dumps(result, indent=2))
    print(f"-> {write_result('footprint', {'model': open_bundle(bundle).manifest.id, **result})}")


def _probe(python: str, bundle: str, precision: str) -> dict[str, Any]:
    # from a folder that is not the checkout, so that the installed package is measured
    command = [python, "-c", _PROBE, bundle, precision]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")  # noqa: S603 - our own code
    values: dict[str, Any] = json.loads(done.stdout)
    return values


def site_packages_mb(folder: Path) -> float:
    """MiB on disk of all files below a folder, as `du` counts them."""
    return sum(file.lstat().st_blocks * 512 for file in folder.rglob("*") if file.is_file()) / 2**20


if __name__ == "__main__":
    main()
