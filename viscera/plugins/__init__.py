"""Other frameworks: MONAI (`monai`), nnU-Net v2 (`nnunet` and `nnunet_trainers`) and TorchIO (`torchio`).

None is a dependency. nnU-Net is imported by `nnunet_trainers` alone, which nnU-Net itself loads; nothing
in viscera imports a plug-in but the command line, for the folder below.
"""

from pathlib import Path

NNUNET_TRAINERS = Path(__file__).parent / "nnunet_trainers"  # for the environment variable nnUNet_extTrainer
