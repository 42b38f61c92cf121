"""How training windows are changed at random (docs/recipes.md); by default they are not, as in the paper."""

from typing import Self

from pydantic import model_validator

from viscera.core.settings import AXES, AxisNames, Coarser, Probability, Settings, setting


class AugmentConfig(Settings):
    """Random changes of the training windows, off as in the paper: drawn anew for each; common sizes, not tuned.

    Those with a probability of 0 are off where the others are on.
    """

    enabled: bool = setting(False, "whether training windows are changed at random (paper: no)")
    rotation_degrees: float = setting(15.0, "largest angle about each axis, either way, degrees", ge=0, le=180)
    rotation_probability: Probability = setting(0.5, "share of the windows that are rotated")
    scaling: float = setting(1.2, "largest factor; drawn log-uniformly from 1/scaling to scaling", ge=1, le=2)
    scaling_probability: Probability = setting(0.5, "share of the windows that are scaled")
    elastic_voxels: float = setting(1.5, "largest s.d. of the displacement along each axis, voxels", ge=0)
    elastic_spacing: float = setting(16.0, "distance of the control points, voxels", ge=2, le=64)
    elastic_probability: Probability = setting(0.3, "share of the windows that are deformed")
    blur_voxels: float = setting(1.0, "largest σ of the Gaussian blur, voxels", ge=0, le=5)
    blur_probability: Probability = setting(0.2, "share of the windows that are blurred")
    contrast: float = setting(1.1, "largest factor on the HU, about water at 0; log-uniform, 1/c to c", ge=1, le=2)
    shift_hu: float = setting(20.0, "largest amount added to all HU, either way, HU", ge=0, le=1000)
    intensity_probability: Probability = setting(0.3, "share of the windows with changed contrast and shift")
    noise_hu: float = setting(25.0, "largest s.d. of the Gaussian noise, HU", ge=0, le=1000)
    noise_probability: Probability = setting(0.2, "share of the windows with noise")
    flip_left_right: bool = setting(False, "mirror half of the windows; off: it moves the liver to the left")
    mirror_axes: AxisNames = setting(
        (), "axes along which half of the windows are mirrored, each by itself: R (as flip_left_right), A, S"
    )
    low_resolution: Coarser = setting(
        2.0, "largest factor on the voxel size, or three along R, A, S; log-uniform from 1, axis by axis (nnU-Net: 2)"
    )
    low_resolution_probability: Probability = setting(
        0.0, "share of the windows whose HU are coarsened so and interpolated (nnU-Net: 0.125)"
    )
    gamma: float = setting(
        1.5, "largest exponent on HU between the extremes of a window; log-uniform, 1/g to g (nnU-Net: 1.5)", ge=1, le=4
    )
    gamma_probability: Probability = setting(0.0, "share of the windows with such an exponent (nnU-Net: 0.3)")
    inverted_gamma_probability: Probability = setting(
        0.0, "share of the windows with one on their negative, before that (nnU-Net: 0.1)"
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
