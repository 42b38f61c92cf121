"""What we plan as nnU-Net does, beside its own planner, in its environment, `.venv-bench` (make install-bench)."""

import pytest

from tests.bench_environment import lines_of, needs_nnunet

pytestmark = [pytest.mark.slow, needs_nnunet]

# their planner without files: fingerprint and sizes of windows as given, and what it asks for is kept
BESIDE = """
import contextlib, io, math
import numpy as np
from nnunetv2.configuration import ANISO_THRESHOLD
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from tests.planned_data import data_of
from viscera.core.config import TrainConfig
from viscera.planning import grid_rules, plan_rules
from viscera.planning.fingerprint import Fingerprint, organ_hu


class Done(Exception):
    pass


class Theirs(ExperimentPlanner):
    def __init__(self, data, patch):
        self.dataset_fingerprint = {"spacings": data.scan_spacings_mm, "shapes_after_crop": data.scan_shapes}
        self.overwrite_target_spacing, self.anisotropy_threshold = None, ANISO_THRESHOLD
        self.suppress_transpose, self.lowres_creation_threshold = True, 0.25
        self.dataset_json, self.plans_identifier = {"numTraining": data.cases}, "p"
        self.patch, self.spacings = patch, []

    def generate_data_identifier(self, name):
        if name == "2d":
            raise Done
        return name

    def get_plans_for_configuration(self, spacing, median_shape, *_):
        self.spacings.append(np.array(spacing))
        return {"spacing": np.array(spacing), "patch_size": [min(self.patch, n) for n in median_shape]}


def their_spacing(data, patch):
    planner = Theirs(data, patch)
    with contextlib.suppress(Done), contextlib.redirect_stdout(io.StringIO()):
        planner.plan_experiment()
    return planner.spacings[-1]


def scans(spacings, shape):
    shapes = [tuple(shape) for _ in spacings]
    return Fingerprint(**{**vars(data_of(spacings[0], shape)), "scan_spacings_mm": tuple(map(tuple, spacings)),
                          "scan_shapes": tuple(shapes), "cases": len(spacings)})


random = np.random.default_rng(0)
for _ in range(60):
    spacings = random.uniform(0.5, 1.5, 3) * random.uniform(0.8, 1.2, (9, 3))
    if random.random() < 0.5:
        spacings[:, 2] *= random.choice([2, 4, 8], 9)
    data = scans(spacings.tolist(), random.integers(20, 512, 3).tolist())
    planner = Theirs(data, 64)
    assert np.allclose(planner.determine_fullres_target_spacing(), grid_rules.full_resolution(data), rtol=1e-6)
print("full resolution")

grid_rules.COARSEST_MM = 1000.0  # where we end earlier
for spacing, shape, patch in (
    ((1, 1, 1), (300, 300, 300), 64), ((0.8, 0.8, 3), (500, 500, 150), 96), ((0.7, 0.7, 5), (512, 512, 90), 64),
    ((2, 2, 2), (100, 100, 100), 64), ((1.5, 1.5, 1.5), (280, 240, 260), 128),
):
    data = data_of(spacing, shape, store_mm=(90, 90, 90), organ_ml=1e6)
    ours = np.array(grid_rules.planned_grid(data, patch, 0.25).spacing_mm)  # its share of a scan, not our tenth
    theirs = their_spacing(data, patch)
    assert np.abs(ours / theirs - 1).max() < 0.05, (spacing, shape, ours, theirs)
print("low resolution")

cases = [(random.normal(m, s, (30, 30, n)).astype(np.int16), random.integers(0, 3, (30, 30, n)).astype(np.uint8))
         for m, s, n in ((40, 20, 30), (120, 60, 7), (-20, 5, 60))]
drawn = np.concatenate([DatasetFingerprintExtractor.collect_foreground_intensities(seg[None], hu[None].astype(float),
                        num_samples=200_000)[0][0] for hu, seg in cases])
found = organ_hu(cases, 3)
assert np.abs(np.percentile(drawn, [0.5, 99.5]) - [found.low, found.high]).max() <= 1.0
assert np.abs([drawn.mean() - found.mean, drawn.std() - found.sd]).max() < 0.3
print("HU")


class Sizes(ExperimentPlanner):
    def __init__(self, most_voxels):
        self.dataset_json = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1}}
        self.UNet_base_num_features, self.UNet_max_features_3d, self.UNet_max_features_2d = 32, 320, 512
        self.UNet_class, self.UNet_featuremap_min_edge_length = type("Net", (), {}), 4
        self.UNet_blocks_per_stage_encoder = self.UNet_blocks_per_stage_decoder = (2,) * 14
        self.UNet_reference_val_3d, self.UNet_vram_target_GB, self.UNet_reference_val_corresp_GB = most_voxels, 8, 8
        self.UNet_reference_val_corresp_bs_3d, self.UNet_min_batch_size, self.max_dataset_covered = 2, 2, 0.05
        self.preprocessor_name = ""

    def static_estimate_VRAM_usage(self, patch_size, *_):
        return float(np.prod(patch_size))

    def determine_normalization_scheme_and_whether_mask_is_used_for_norm(self):
        return [], []


for edge, most, cases in ((100, 64, 100), (160, 64, 8), (64, 128, 100), (90, 48, 1000), (64, 80, 40)):
    data = data_of((2, 2, 2), (edge,) * 3, store_mm=(2, 2, 2), cases=cases)
    theirs = Sizes(most**3).get_plans_for_configuration([2.0] * 3, [edge] * 3, "", float(cases * edge**3), {})
    patch = int(theirs["patch_size"][0])
    if most <= edge:
        assert list(theirs["patch_size"]) == [most] * 3
    ours = plan_rules.candidate(data, TrainConfig(), (patch, 8), frozenset({"train.patch"}))
    values = {choice.key: choice.value for choice in ours.choices}
    assert values["train.levels"] == len(theirs["architecture"]["arch_kwargs"]["strides"])
    assert values["train.network.strides"] is None  # 2 along all axes, as theirs
    assert {tuple(each) for each in theirs["architecture"]["arch_kwargs"]["strides"][1:]} == {(2, 2, 2)}
    in_memory = round(2 * most**3 / patch**3)
    larger = plan_rules.larger_batch(data, ours.grid, patch, in_memory, math.inf)
    assert (larger.value if larger else 2) == theirs["batch_size"]
print("windows, levels and batches")
"""


def test_grids_hu_windows_levels_and_batches_are_its_own_where_we_say_so() -> None:
    assert lines_of(BESIDE)[-4:] == ["full resolution", "low resolution", "HU", "windows, levels and batches"]
