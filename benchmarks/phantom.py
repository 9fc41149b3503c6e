"""Films a second of the phantom, PNG files included: ``python benchmarks/phantom.py [IMAGES] [SIZE] [WORKERS]``."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from cxrlocus.data.phantom import generate_film, write_phantom

GOAL = 40.0


def main(arguments: list[str]) -> int:
    images, size, workers = [int(a) for a in arguments] + [600, 256, min(2, os.cpu_count() or 1)][len(arguments) :]
    generate_film(0, 0, size)
    start = time.perf_counter()
    for number in range(40):
        generate_film(1, number, size)
    alone = 40 / (time.perf_counter() - start)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_phantom(Path(folder) / "phantom", images=images, size=size, workers=workers)
        rate = images / (time.perf_counter() - start)
    row = {"images": images, "size": size, "workers": workers, "films_per_s": round(rate, 1), "goal": GOAL}
    print(json.dumps({**row, "in_memory_one_process": round(alone, 1)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
