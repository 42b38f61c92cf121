#!/usr/bin/env bash
# Learn single real CT scans by heart: can the whole chain represent their labels? Says nothing about other patients.
# Arguments: nnU-Net folder with ts_example and lidc0001, folder to work in, page to write, preset.
# What is done already is not done again, so an interrupted training goes on where it stopped.
set -euo pipefail
data=$1 folder=$2 page=$3 preset=${4:-paper}
bin=${BIN:-.venv/bin}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
TIMEFORMAT='%U %S' # of `time`: seconds of the processor, of the program and of the system for it
precision=float32
if grep -qs avx512_bf16 /proc/cpuinfo; then precision=bfloat16; fi

memorise() { # case, iterations, downsampling, organs
    local case=$1 work=$folder/$1
    local others
    mkdir -p "$work"
    others=$(basename -as _0000.nii.gz "$data"/imagesTr/*_0000.nii.gz | grep -vx "$case" | sed 's/.*/"&"/' | paste -sd,)
    echo "{\"train\": [\"$case\"], \"validation\": [], \"test\": [$others]}" >"$work/split.json"
    echo "classes: [$4]" >"$work/classes.yaml"
    "$bin/viscera" prepare "$data" "$work/store" --split "$work/split.json" --classes "$work/classes.yaml" \
        --downsample "$3" --config studies/memorise.yaml --quiet
    { time "$bin/viscera" train "$work/store" "$work/run" --iterations "$2" --preset "$preset" \
        --config studies/memorise.yaml --set train.precision="$precision" --resume --quiet 2>&3; } \
        3>&2 2>>"$work/processor_seconds.txt"
    "$bin/viscera" predict "$work/run" "$data/imagesTr/${case}_0000.nii.gz" "$work/predictions" --quiet
    "$bin/viscera" evaluate "$work/predictions" "$data" --out "$work/scores.csv" --quiet
}

organs="artery, portal_vein, liver, spleen, stomach"
steps_ts_example=1000 steps_lidc0001=600
if [ "$preset" = strong ]; then # half the time, by what its steps take (docs/results/recipes.md)
    steps_ts_example=480 steps_lidc0001=288
fi
memorise ts_example "${STEPS_TS_EXAMPLE:-$steps_ts_example}" 2 "$organs, gallbladder, pancreas" &
first=$!
memorise lidc0001 "${STEPS_LIDC0001:-$steps_lidc0001}" 2 "$organs, pancreas" & # it has no gallbladder
second=$!
wait "$first"
wait "$second"
"$bin/python" -m benchmarks.record_memorised "$folder" --out "$page" --preset "$preset"
