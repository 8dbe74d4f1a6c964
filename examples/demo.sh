#!/bin/sh
# The main job, end to end, on the built-in data: what `make demo` runs. Every line is what a user would type.
set -eu
ROOT=${1:-demo}

impure-data generate --attack all --split train --per-class 30 --out "$ROOT/pairs"
impure-data generate --attack all --split val --per-class 10 --out "$ROOT/pairs"
impure-data verify "$ROOT/pairs"
impure-data preview "$ROOT/pairs"
impure-train --shards "$ROOT/pairs" --epochs 6 --out "$ROOT/run"
rm -rf "$ROOT/report"  # the demo's own, of an earlier run: impure-eval would keep it
impure-eval --shards "$ROOT/pairs" --checkpoint "$ROOT/run" --out "$ROOT/report"

echo
echo "Report:        $ROOT/report/report.html"
echo "Contact sheet: $ROOT/pairs/preview.png"
echo "Next:          .venv/bin/impure-data generate --images /data/imagenet --target resnet101 --attack all --dry-run"
