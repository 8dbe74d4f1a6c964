"""Train a tiny RIAE for one epoch and evaluate it: `python examples/train_and_evaluate.py`.

One epoch on a few pairs of built-in images shows the way, not what RIAE can do; `make demo` trains long
enough to undo the attacks.
"""

import json
import tempfile
from pathlib import Path

from impure.cli import data, evaluate, train

with tempfile.TemporaryDirectory() as folder:
    root = Path(folder) / "pairs"
    run = Path(folder) / "run"
    generate = f"generate --attack fgsm --per-class 2 --threads 1 --out {root}"
    data(generate.split(), standalone_mode=False)
    train(
        f"--shards {root} --epochs 1 --validate none --threads 1 --out {run}".split(), standalone_mode=False
    )
    evaluate(f"--shards {root} --checkpoint {run} --threads 1".split(), standalone_mode=False)

    report = json.loads((run / "report" / "report.json").read_text())
    for row in report["rows"]:
        print(f"{row['attack']:6} {row['defence']:6} {row['accuracy']:.0%}")
