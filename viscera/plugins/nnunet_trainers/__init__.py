"""The folder for `nnUNet_extTrainer`: `viscera nnunet-path` prints it, nnU-Net imports what lies in it."""
