"""How training windows are changed at random (docs/recipes.md); by default they are not, as in the paper."""

from typing import Self

from pydantic import model_validator

from viscera.core.settings import AXES, AxisNames, Coarser, Probability, Settings, setting


class AugmentConfig(Settings):
    """Random changes of the training windows, off as in the paper: drawn anew for each; common sizes, not tuned.

    Those with a probability of 0 are off where the others are on.
    """

    enabled: bool = setting(False, "change the training patches at random (paper: no)")
    rotation_degrees: float = setting(
        15.0, "largest angle about each axis, in either direction, in degrees", ge=0, le=180
    )
    rotation_probability: Probability = setting(0.5, "share of the patches that are rotated")
    scaling: float = setting(1.2, "largest scaling factor; drawn log-uniformly from 1/scaling to scaling", ge=1, le=2)
    scaling_probability: Probability = setting(0.5, "share of the patches that are scaled")
    elastic_voxels: float = setting(
        1.5, "largest standard deviation of the displacement along each axis, in voxels", ge=0
    )
    elastic_spacing: float = setting(16.0, "distance between the control points, in voxels", ge=2, le=64)
    elastic_probability: Probability = setting(0.3, "share of the patches that are deformed")
    blur_voxels: float = setting(1.0, "largest σ of the Gaussian blur, in voxels", ge=0, le=5)
    blur_probability: Probability = setting(0.2, "share of the patches that are blurred")
    contrast: float = setting(
        1.1, "largest factor on the HU, about water at 0; drawn log-uniformly from 1/contrast to contrast", ge=1, le=2
    )
    shift_hu: float = setting(20.0, "largest shift of all HU, up or down, in HU", ge=0, le=1000)
    intensity_probability: Probability = setting(0.3, "share of the patches whose contrast and shift are changed")
    noise_hu: float = setting(25.0, "largest standard deviation of the Gaussian noise, in HU", ge=0, le=1000)
    noise_probability: Probability = setting(0.2, "share of the patches to which noise is added")
    flip_left_right: bool = setting(
        False, "mirror half of the patches; off by default, as it moves the liver to the left"
    )
    mirror_axes: AxisNames = setting(
        (), "axes along which half of the patches are mirrored, independently: R (as flip_left_right), A, S"
    )
    low_resolution: Coarser = setting(
        2.0,
        "largest factor on the voxel size, or three along R, A, S; drawn log-uniformly from 1, per axis (nnU-Net: 2)",
    )
    low_resolution_probability: Probability = setting(
        0.0, "share of the patches whose HU are coarsened by it and interpolated back (nnU-Net: 0.125)"
    )
    gamma: float = setting(
        1.5,
        "largest exponent on HU scaled to the range of a patch; drawn log-uniformly, 1/g to g (nnU-Net: 1.5)",
        ge=1,
        le=4,
    )
    gamma_probability: Probability = setting(0.0, "share of the patches with such an exponent (nnU-Net: 0.3)")
    inverted_gamma_probability: Probability = setting(
        0.0, "share of the patches with one on their inverted HU, before that (nnU-Net: 0.1)"
    )

    @property
    def mirrors(self) -> AxisNames:
        """Axes along which windows are mirrored, where windows are changed."""
        return tuple(each for each in AXES if each in self.mirror_axes or (each == "R" and self.flip_left_right))

    @model_validator(mode="after")
    def _without_folds(self) -> Self:
        if self.elastic_voxels > self.elastic_spacing / 6:
            raise ValueError("elastic_voxels must be at most a sixth of elastic_spacing, or tissue folds over itself")
        return self
