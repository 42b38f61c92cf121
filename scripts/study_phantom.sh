#!/usr/bin/env bash
# The experiment that decides (docs/decisions/0009). Arguments: folder, device (cpu, or cuda for the paper's size), and
# `forecast` to run the sets of phantoms that the forecast of `viscera doctor` was fitted to as well, and fit it again.
# What is done already is not done again, so an interrupted study goes on where it stopped.
set -euo pipefail
folder=$1
device=${2:-cpu}
bin=${BIN:-.venv/bin}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

preset=demo cases=28 shape="48 36 36" shape_a="44 36 40" shape_b="56 40 36" shape_c="52 38 38"
seed_a=100 seed_b=200 seed_c=300
later=()
if [ "$device" != cpu ]; then
    preset=paper cases=100 shape="128 128 128" shape_a="112 112 128" shape_b="144 128 128" shape_c="128 112 128"
    later=(--set train.validate_every=10000)
    steps="{train.loss.schedule.to: uniform, train.loss.schedule.last_step: 6667}"
fi

phantoms() { # name, seed, shape
    # shellcheck disable=SC2086
    "$bin/viscera" phantom "$folder/$1/phantom" --cases "$cases" --seed "$2" --shape $3 --jobs 2
    "$bin/viscera" prepare "$folder/$1/phantom" "$folder/$1/store" \
        --downsample 1 --test-fraction 0.286 --validation-fraction 0.143
}

run() { # store, study, more options
    local store=$1 study=$2
    shift 2
    "$bin/viscera" study "$store" "$folder/$study" --preset "$preset" --device "$device" "${later[@]}" "$@"
}

run_forecast() { # set of phantoms, seeds
    local shape_of=shape_$1 seed_of=seed_$1
    phantoms "$1" "${!seed_of}" "${!shape_of}"
    run "$folder/$1/store" "$1/forecast" --config studies/forecast.yaml --seeds "$2"
}

phantoms main 0 "$shape"
run "$folder/main/store" direction --config studies/direction.yaml
run "$folder/main/store" printed --config studies/printed.yaml
run "$folder/main/store" scale --config studies/scale.yaml
run "$folder/main/store" readings --config studies/readings.yaml
run "$folder/main/store" repair --config studies/repair.yaml ${steps:+--set "study.variants.to-uniform=$steps"}
if [ "${3:-}" = forecast ]; then
    run_forecast a 0
    run_forecast b 0
fi
run_forecast c 0,1,2 # the forecast was not fitted to this
"$bin/python" -m benchmarks.why_weights_fail "$folder" --out "${PAGE:-$folder/why-weights-fail.md}"
if [ "${3:-}" = forecast ]; then
    "$bin/python" -m benchmarks.fit_forecast --fit main="$folder"/direction a="$folder"/a/forecast \
        b="$folder"/b/forecast repair="$folder"/repair printed="$folder"/printed scale="$folder"/scale \
        --test c="$folder"/c/forecast
fi
