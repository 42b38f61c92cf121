#!/usr/bin/env bash
# The demo: 28 phantoms, six models, one report. Arguments: folder, then more options for `viscera study`.
# What is done already is not done again, so an interrupted demo goes on where it stopped.
set -euo pipefail
folder=$1; shift
bin=${BIN:-.venv/bin}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

"$bin/viscera" phantom "$folder/phantom" --cases 28 --shape 48 36 36 --jobs 2
"$bin/viscera" prepare "$folder/phantom" "$folder/store" \
    --downsample 1 --test-fraction 0.286 --validation-fraction 0.143 --jobs 2
"$bin/viscera" study "$folder/store" "$folder/study" --preset demo "$@"
