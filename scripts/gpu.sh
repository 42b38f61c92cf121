#!/usr/bin/env bash
# The next pieces of what needs a GPU (benchmarks/gpu.py), with the Python that has PyTorch, or else with .venv.
#
# scripts/gpu.sh WORK OUT [options of benchmarks/gpu.py]
set -euo pipefail
cd "$(dirname "$0")/.."
python=${GPU_PYTHON:-python3}
if "$python" -c 'import torch' 2>/dev/null; then
    "$python" scripts/gpu_environment.py "${GPU_WHEELS:-wheels}" .gpu-site
    export PYTHONPATH=.gpu-site:.${PYTHONPATH:+:$PYTHONPATH}
else
    make --no-print-directory install
    python=.venv/bin/python
fi
exec "$python" -m benchmarks.gpu "$@"
