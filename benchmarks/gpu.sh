#!/usr/bin/env bash
# Everything that only a GPU can show, in order of worth, in at most 8 minutes, without a network.
# Leaves OUT/NAME.json and OUT/NAME.log of each step, and OUT/steps.tsv: step, exit code (124: out of time), seconds.
#
#   benchmarks/gpu.sh OUT [STEP…]      all steps, or these
#   SMALL=1 benchmarks/gpu.sh OUT      the same on a CPU, tiny, so that no GPU time is lost to a slip
#
# PHOTOS: an ImageNet folder with train/ (default ../shared/imagenette). CARD: the trained target's card (default
# EfficientNet-Lite0 beside it). PYTHON: the interpreter (default the checkout's). PATIENCE: each step may take so many
# times its seconds (default 1).
set -uo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
out=$(mkdir -p "${1:?folder for the results}" && cd "$1" && pwd)
shift
wanted=" $* "
PHOTOS=${PHOTOS:-$here/../shared/imagenette}
CARD=${CARD:-$here/../shared/targets/efficientnet_lite0.json}
PYTHON=${PYTHON:-$here/.venv/bin/python}
SMALL=${SMALL:-}
PATIENCE=${PATIENCE:-1}
export PYTHONPATH=$here/src${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
attacks=fgsm,pgd,mifgsm,difgsm,mdifgsm,apgd-ce,apgd-dlr,cw,deepfool

if [ "$SMALL" ]; then
  riae="--device cpu --threads 2 --model tiny --size 32 --rounds 1" batches=(2) variants="--variant math" few="--count 32" timed="--device cpu --threads 2 --model squeezenet1_1 --size 32 --batch-size 1 --rounds 1"
  some="--device cpu --threads 2 --per-class 1 --shard-size 10 --set steps=2 --split train" attacks=pgd network=resnet18 halved="--attack pgd"
  trained="--device cpu --threads 2 --model tiny --crop 32 --batch-size 4 --workers 0"
  pictures=()  # the built-in ones, with their small target
else
  riae="--device cuda --rounds 5" batches=(64 128 256) few="--count 240" timed="--device cuda --model resnet101 --size 224 --batch-size 32 --rounds 2"
  halved="--attack pgd --attack cw"
  some="--device cuda --per-class 20 --shard-size 100 --split train" network=resnet101
  trained="--device cuda --model base --batch-size 64 --bf16" pictures=(--images "$PHOTOS" --target "$CARD")
  variants="--variant flash --variant efficient --variant blocks --variant blocks+flash --variant blocks+efficient"
fi

# step NAME SECONDS COMMAND…: standard output to NAME.json, standard error to NAME.log
step() {
  local name=$1 limit=$2 begun=$SECONDS code
  shift 2
  [[ $wanted == "  " || $wanted == *" $name "* ]] || return 0
  timeout --kill-after 5 "$((limit * PATIENCE))" "$@" > "$out/$name.json" 2> "$out/$name.log"
  code=$?
  printf '%s\t%s\t%s\n' "$name" "$code" "$((SECONDS - begun))" | tee -a "$out/steps.tsv"
}

bench() { step "$1" "$2" "$PYTHON" "$here/benchmarks/$3.py" "${@:4}" --json; }
impure() { step "$1" "$2" "$PYTHON" -c "from impure.cli import $3; $3()" "${@:4}"; }
part() { step "$1" "$2" "$PYTHON" "$here/benchmarks/gpu_parts.py" "${@:3}"; }

: > "$out/steps.tsv"
part machine 30 machine
impure generate-lite0 90 data generate --attack $attacks --images "$PHOTOS" --target "$CARD" $some --out "$work/lite0" --json
bench attacks-fp32 60 attacks $timed --attack pgd --attack apgd-ce --attack cw
for size in "${batches[@]}"; do bench "riae-$size" 45 train $riae --bf16 --batch-size "$size"; done
bench riae-variants 150 train $riae --bf16 --batch-size "${batches[0]}" $variants
# A CPU's compiler takes minutes: `--compile` has tests of its own.
[ "$SMALL" ] || impure generate-compiled 75 data generate --attack pgd,cw --compile "${pictures[@]}" $some --out "$work/compiled" --json
bench attacks-deepfool 60 attacks $timed --attack deepfool
impure train 60 train --shards "$work/lite0" --recipe pixel --validate none --epochs 1 $trained --out "$work/run" --json
part train-rate 10 log "$work/run/log.csv"
impure cpu 60 data generate --attack pgd,mifgsm "${pictures[@]}" $some --device cpu --per-class 2 --out "$work/cpu" --json
impure gpu 60 data generate --attack pgd,mifgsm "${pictures[@]}" $some --per-class 2 --out "$work/gpu" --json
part agreement 20 agreement "$work/cpu" "$work/gpu"
bench attacks-bf16 60 attacks $timed --precision bf16 $halved
step untrained 40 "$PYTHON" "$here/benchmarks/untrained_target.py" "$network" "$CARD" "$PHOTOS" "$work/untrained" $few
impure generate-$network 75 data generate --attack $attacks --images "$work/untrained" --target "$work/untrained/card.json" $some --per-class 100 --allow-short --out "$work/$network" --json
[ "$SMALL" ] || bench attacks-tf32 60 attacks $timed --precision tf32 --attack pgd
impure profile 60 train --shards "$work/lite0" --recipe pixel --validate none --epochs 1 $trained --out "$work/profiled" --profile "$out/trace.json" --json
impure replay 40 data verify "$work/lite0" --level replay --images "$PHOTOS" --target "$CARD" --json
step nccl 60 "$PYTHON" -m torch.distributed.run --nproc-per-node 1 --no-python "$PYTHON" -c "from impure.cli import train; train()" \
  --shards "$work/lite0" --recipe pixel --validate none --epochs 1 --attacks pgd $trained --out "$work/ranks" --json
