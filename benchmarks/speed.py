"""Time `practical` and PyTorch, Captum and Quantus in turn, on the same weights and images.

    make bench ARGS='--cases resnet18 --what forward gradient --rounds 3 --out speed.json'

Each peer's answer is compared with ours before its time counts. README.md says what the columns
are. Exits with status 1 if an answer differs by more than the tolerance.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

# Two libraries share a GPU, and JAX would take three quarters of it.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import layouts
import machine
import numpy as np
import ours
import peers
import torch
from flops import work_flops
from networks import nhwc_to_nchw, random_images, twins
from tables import Result, alone_table, verdict, warm_table
from work import CASES, OURS, WORKS, Case, difference, maps_without_ties, parse_case

SLOWER = 1.25  # times the best peer of the heats: who is slower is not run in full
LEAST = 0.1  # seconds that one timing takes; shorter calls are repeated


def main() -> int:
    options = parse()
    layouts.set_up(options.precision)
    ours.set_precision(options.precision)
    for name in sorted(set(options.peers) - set(peers.installed())):
        print(f"{name} is not installed: nothing is compared with it\n")

    about = machine.describe(options.precision)
    print("\n".join(f"- {name}: {value}" for name, value in about.items()), flush=True)
    rates = machine.product_rates()
    rate = max(rates.values())
    listed = ", ".join(f"{name} {one / 1e9:.0f}" for name, one in rates.items())
    side = machine.product_side()
    print(f"- product of two {side}x{side} float32 matrices, GFLOP/s: {listed}", flush=True)

    results: list[Result] = []
    for case in options.cases:
        with tempfile.TemporaryDirectory() as folder:
            write_example(Path(folder), case)
            theirs = layouts.load(Path(folder), case.network)
            found: list[Result] = []
            for work in options.what:
                found.append(run(Path(folder), case, work, theirs, options))
                if options.out:  # now, so that who stops it has what was measured
                    measured = [asdict(one) for one in results + found]
                    saved = {"machine": about, "rates": rates, "results": measured}
                    options.out.write_text(json.dumps(saved, indent=1) + "\n")
            layouts.forget()
        results += found
        print(f"\n{case.network}, {case.images} images of {case.side}x{case.side} pixels\n")
        throughput = jax.default_backend() != "cpu"
        print("\n".join(warm_table(found, rate, throughput=throughput)))
        print("\n".join(["", *alone_table(found)]), flush=True)
    failures = [
        f"{r.case} {r.work}: {who}: {why}" for r in results for who, why in r.failed.items()
    ]
    print("\n" + "\n".join([verdict(results), *failures]))
    return 1 if any("DIFFERS" in line for line in failures) else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--cases", nargs="+", type=parse_case, metavar="CASE",
        default=list(CASES.values()),
        help="resnet18 (160 pixels, 8 images), resnet50 (224, 16), or NETWORK:SIDExIMAGES",
    )  # fmt: skip
    parser.add_argument("--what", nargs="+", choices=WORKS, default=list(WORKS), metavar="WORK",
                        help=f"of {', '.join(WORKS)}")  # fmt: skip
    parser.add_argument("--peers", nargs="+", choices=peers.LIBRARIES, default=peers.LIBRARIES)
    parser.add_argument("--variants", nargs="+", choices=layouts.VARIANTS, metavar="VARIANT",
                        default=list(layouts.VARIANTS),
                        help=f"of PyTorch's networks: {', '.join(layouts.VARIANTS)}")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=("highest", "tf32"), default="highest",
                        help="of a GPU's products, on both sides")  # fmt: skip
    parser.add_argument("--warm", action="store_true", help="no processes of their own")
    parser.add_argument("--out", type=Path, help="all timings, as JSON")
    return parser.parse_args()


def write_example(folder: Path, case: Case) -> None:
    """Write weights, images, targets and maps for both sides, and for other processes."""
    pair, images = twins(case.network), random_images((case.images, case.side, case.side))
    with torch.no_grad():
        targets = pair.torch(nhwc_to_nchw(images)).argmax(1).numpy()
    heatmaps, values = (maps_without_ties(shape) for shape in (images.shape[:3], images.shape))
    pair.practical.save(folder / "model.safetensors")
    torch.save(pair.torch.state_dict(), folder / "model.pt")
    np.savez(
        folder / "example.npz", images=images, targets=targets, heatmaps=heatmaps, values=values
    )


def run(
    folder: Path, case: Case, work: str, theirs: layouts.Example, options: argparse.Namespace
) -> Result:
    """Measure one work in all ways."""
    mine = ours.load(folder)
    what, full, _, tolerance = WORKS[work]
    flops = work_flops(work, full, mine.model.architecture, case)
    found = Result(str(case), work, what, case.images, flops)
    say(f"{case} {work}")
    answer = ours.arrays(ours.compute(work, mine, full))

    libraries = [name for name in options.peers if name in peers.installed()]
    names = peers.names(work, libraries, options.variants)
    calls = heat(found, work, theirs, names)
    for name, call in calls.items():
        try:
            # Warm, too: the last chunk of the whole work has another size than those of the heats.
            apart = difference(answer, peers.arrays(call(full)))
            if work == "smooth_grad":  # each draws its own noise, so they are given ours
                apart = same_noise(mine, theirs, name)
        except Exception as error:
            found.failed[name] = reason(error)
            continue
        found.differences[name] = apart
        if not apart <= tolerance * (20 if options.precision == "tf32" else 1):
            found.failed[name] = f"DIFFERS by {apart:.1e} of the root mean square"
    found.seconds = {OURS: []} | {name: [] for name in calls if name not in found.failed}
    for _ in range(options.rounds):
        for name, times in found.seconds.items():
            if name == OURS:
                times.append(timed(lambda: ours.compute(work, mine, full)))
            else:
                times.append(timed(lambda call=calls[name]: call(full)))
    if not options.warm:
        for name in (OURS, found.best):
            if name is not None:
                measure_alone(folder, case, found, name, options.precision)
    say(f"  {found.best}: {', '.join(f'{ratio:.2f}' for ratio in found.ratios)}")
    return found


def heat(
    found: Result, work: str, of: layouts.Example, names: list[str]
) -> dict[str, Callable[[int], Any]]:
    """Return the fastest peers on a part of the work, and the nearly as fast ones."""
    few, calls = WORKS[work].few, {}
    for name in names:
        laid = layouts.with_variant(of, work, name.partition(", ")[2])

        def call(count: int, name: str = name, laid: layouts.Example = laid) -> Any:
            return peers.compute(name, work, laid, count)

        try:
            call(few)
            found.heats[name] = min(timed(lambda call=call: call(few)) for _ in range(2))
        except Exception as error:  # whatever a compiler or a library raises: it is printed
            found.failed[name] = reason(error)
            say(f"  {name} failed: {found.failed[name]}")
            continue
        say(f"  {name}: {found.heats[name]:.3g} s for a part")
        calls[name] = call
    best = min(found.heats.values(), default=math.inf)
    return {name: call for name, call in calls.items() if found.heats[name] <= SLOWER * best}


def same_noise(mine: ours.Example, theirs: layouts.Example, name: str) -> float:
    """Return how far SmoothGrad is apart over the same few noisy copies."""
    few = WORKS["smooth_grad"].few
    answer = ours.arrays(ours.compute("smooth_grad", mine, few))
    noise = torch.from_numpy(ours.noise(mine, few)).permute(0, 1, 4, 2, 3).contiguous()
    given = layouts.with_variant(theirs, "smooth_grad", name.partition(", ")[2])
    given = given._replace(noise=noise.to(layouts.device()))
    return difference(answer, peers.arrays(peers.compute(name, "smooth_grad", given, few)))


def timed(call: Callable[[], Any]) -> float:
    """Return the seconds of one call, or the mean of as many as take a while."""
    time.sleep(0.05)  # the threads of the library that came before may still spin
    count, start = 0, time.perf_counter()
    while count == 0 or time.perf_counter() - start < LEAST:
        call()
        count += 1
    return (time.perf_counter() - start) / count


def measure_alone(folder: Path, case: Case, found: Result, name: str, precision: str) -> None:
    """Add what a process of its own says."""
    command = [
        sys.executable, str(Path(__file__).with_name("alone.py")), str(folder), case.network,
        found.work, name, precision,
    ]  # fmt: skip
    environment = dict(os.environ, TORCHINDUCTOR_FORCE_DISABLE_CACHES="1")
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        found.failed[f"{name}, alone"] = (done.stderr.strip().splitlines() or ["?"])[-1]
        say(done.stderr[-2000:])
        return
    found.alone[name] = json.loads(done.stdout.splitlines()[-1])
    if ", compiled" in name:  # PyTorch compiles in its first call
        found.alone[name]["compile"] = max(
            0.0, (found.alone[name]["first"] or 0.0) - float(np.median(found.seconds[name]))
        )


def reason(error: Exception) -> str:
    """Return an exception in one line."""
    lines = [line for line in traceback.format_exception_only(error) if line.strip()]
    return " ".join(lines[0].split())[:200]


def say(text: str) -> None:
    """Tell who waits; the tables alone go to the standard output."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
