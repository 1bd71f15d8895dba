"""Hold `practical.metrics` against Captum, Quantus, and what RISE, Xplique and ROAD define.

A small ResNet with random weights, maps without ties; random metrics are given the sets that
`practical` drew. Exits with status 1 if anything differs by more than rounding explains, and
prints what is known to differ. README.md says where the tolerances come from.
"""

import argparse
import sys
import time
import warnings

import numpy as np
import torch
from comparison import print_checks, verdict
from curves import Example, quantus_checks, rise_checks, road_checks, xplique_checks
from networks import random_images, small_twins
from scores import map_checks, map_differences, removal_checks, robustness_checks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's threads (1)")
    torch.set_num_threads(parser.parse_args().threads)
    # Quantus' areas call a function that NumPy 2.4 has no more, by the name that it has now.
    if not hasattr(np, "trapz"):
        np.trapz = np.trapezoid  # noqa: NPY201
    # Captum and Quantus say at each call what they are about to do.
    warnings.filterwarnings("ignore", module="captum|quantus")

    start = time.perf_counter()
    pair, images = small_twins(), random_images((4, 24, 24))
    example = Example(pair.practical, pair.torch.double(), images)
    checks = [
        *rise_checks(example),
        *xplique_checks(example),
        *quantus_checks(example),
        *road_checks(example),
        *removal_checks(example),
        *robustness_checks(example),
        *map_checks(example),
    ]
    print_checks(checks)

    print(f"\n{'Known to differ from Quantus':<44}{'practical':>10}{'Quantus':>10}")
    for name, ours, theirs in map_differences(example):
        print(f"{name:<44}{ours:>10.3f}{theirs:>10.3f}")
    print(f"\n{time.perf_counter() - start:.0f} s", flush=True)
    return verdict({f"{row.name} ({row.against})": row.good for row in checks})


if __name__ == "__main__":
    sys.exit(main())
