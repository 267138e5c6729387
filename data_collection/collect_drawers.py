#!/usr/bin/env python3
"""Record the simulated drawer dataset that the shipped checkpoint was trained on."""

import argparse
import sys

from stable_crl_ros.sim.collect import collect
from tqdm import tqdm

EPISODES = {'open_drawer': 400, 'close_drawer': 300, 'move_drawer': 300}


def main() -> int:
    """Collect, showing progress."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('dataset', help='folder of the dataset; made when it is not there')
    parser.add_argument('--seed', type=int, default=0, help='of everything random')
    parser.add_argument('--workers', type=int, default=2, help='processes')
    options = parser.parse_args()
    with tqdm(total=sum(EPISODES.values()), unit='episode') as bar:
        collect(options.dataset, EPISODES, options.seed, options.workers,
                progress=lambda done, successes: bar.update(done))
    return 0


if __name__ == '__main__':
    sys.exit(main())
