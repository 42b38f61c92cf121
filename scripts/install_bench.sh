#!/usr/bin/env bash
# The environment for runs beside nnU-Net v2 and MONAI. Argument: its folder (.venv-bench). Run it again to mend it.
#
# nnU-Net's networks name timm among their needs, and timm brings torchvision, whose binary refuses every torch but its
# own, the CPU build among them. Only the Primus trainers use timm. So nnU-Net comes without its needs, these follow
# by name, and, where timm is absent, the Primus trainers go: nnU-Net imports every trainer it has before it looks into
# nnUNet_extTrainer, and would stop there.
set -euo pipefail
venv=${1:-.venv-bench}
python=${PYTHON:-python3}
pip="$venv/bin/python -m pip --disable-pip-version-check"

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
$pip install --quiet --constraint constraints.txt --editable '.[dicom,oracle]' pytest
$pip install --quiet --constraint constraints.txt \
    blosc2 connected-components-3d deprecated einops graphviz humanize imagecodecs jaxtyping requests scikit-learn \
    seaborn SimpleITK threadpoolctl tifffile tqdm yacs
$pip install --quiet --no-deps \
    nnunetv2==2.8.1 dynamic-network-architectures==0.4.4 batchgenerators==0.25.5 batchgeneratorsv2==0.3.6 \
    acvl-utils==0.2.6 future torchio==1.2.1 exacta==0.0.1a5

site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$venv/bin/python" -c 'import timm.layers' 2>/dev/null || rm -rf "$site/nnunetv2/training/nnUNetTrainer/primus"
"$venv/bin/python" -c 'import monai, nnunetv2.training.nnUNetTrainer.nnUNetTrainer, torch, viscera
print("torch", torch.__version__, "MONAI", monai.__version__)'
