"""Trains and evaluates the experiment of a configuration file; the same program as `g2ajax train`.

    python run.py --config=configs/agreid_vit.py --workdir=runs/agreid_vit
    python run.py --config=configs/agreid_vit.py:skyground --config.seed=1
    python run.py --config=configs/agreid_vit.py --help_config
    python run.py --config=configs/agreid_vit.py --workdir=runs/agreid_vit --evaluate=best

A run that was stopped or killed goes on from its last checkpoint when it is started again.
"""

import sys

from g2ajax.cli.interrupt import end_at_interrupt

if __name__ == "__main__":
    end_at_interrupt()  # importing takes a second, in which Ctrl-C may come too
    from g2ajax.cli import train

    train.main(sys.argv[1:])
