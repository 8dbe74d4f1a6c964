"""Make a small collection and read it in three ways: `python examples/read_collection.py`.

It is made on the built-in images; nothing is downloaded.
"""

import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import webdataset

import impure
from impure.cli import data

with tempfile.TemporaryDirectory() as folder:
    root = Path(folder) / "pairs"
    options = f"--attack fgsm --split val --per-class 2 --threads 1 --out {root}"
    data(["generate", *options.split()], standalone_mode=False)  # as `impure-data generate …` in a shell

    # 1. Through impure: the committed shards, and their pairs as tensors.
    shards = impure.open_collection(root, attacks=["fgsm"], splits=["test"])
    pairs = impure.PairDataset(shards, clean_pairs=False)
    adversarial, clean = pairs[0]
    distance = (adversarial.int() - clean.int()).abs().max()
    print(f"{len(pairs)} pairs of {tuple(clean.shape)}; the first differs by up to {distance}/255")

    # 2. The manifest of a shard: one row for each planned image.
    manifest = pq.read_table(shards[0].manifest, columns=["key", "label", "pred_adv", "success"])
    print(f"{sum(manifest['success'].to_pylist())} of {manifest.num_rows} images fool the classifier")

    # 3. Without impure: a shard is a WebDataset tar.
    tar = webdataset.WebDataset(str(shards[0].tar), shardshuffle=False).decode("pil")
    sample = next(iter(tar))
    print(f"{sample['__key__']}: {sample['adv.png'].size}, class {sample['cls']}")
