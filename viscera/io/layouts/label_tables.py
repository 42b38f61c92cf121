"""Label tables that are too long for the table of layouts. Names are TotalSegmentator's.

Both from wasserth/TotalSegmentator, totalsegmentator/map_to_binary.py, `total_v1` and `total`.
"""

from viscera.io.layouts.layout import in_order


def _vertebrae(*first_to_last: tuple[str, int, int]) -> tuple[str, ...]:
    return tuple(f"vertebrae_{part}{n}" for part, first, last in first_to_last for n in range(first, last - 1, -1))


def _pairs(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}_{side}" for name in names for side in ("left", "right"))


_LUNGS = (
    *("lung_upper_lobe_left", "lung_lower_lobe_left"),
    *("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"),
)
_RIBS = tuple(f"rib_{side}_{n}" for side in ("left", "right") for n in range(1, 13))
_LIMBS = _pairs("humerus", "scapula", "clavicula", "femur", "hip")
_MUSCLES = _pairs("gluteus_maximus", "gluteus_medius", "gluteus_minimus", "autochthon", "iliopsoas")

TOTALSEGMENTATOR_V1 = in_order(
    *("spleen", "kidney_right", "kidney_left", "gallbladder", "liver", "stomach", "aorta", "inferior_vena_cava"),
    *("portal_vein_and_splenic_vein", "pancreas", "adrenal_gland_right", "adrenal_gland_left"),
    *_LUNGS,
    *_vertebrae(("L", 5, 1), ("T", 12, 1), ("C", 7, 1)),
    *("esophagus", "trachea", "heart_myocardium", "heart_atrium_left", "heart_ventricle_left"),
    *("heart_atrium_right", "heart_ventricle_right", "pulmonary_artery", "brain"),
    *_pairs("iliac_artery", "iliac_vena"),
    *("small_bowel", "duodenum", "colon"),
    *_RIBS,
    *_LIMBS,
    *("sacrum", "face"),
    *_MUSCLES,
    "urinary_bladder",
)

TOTALSEGMENTATOR_V2 = in_order(
    *("spleen", "kidney_right", "kidney_left", "gallbladder", "liver", "stomach", "pancreas"),
    *("adrenal_gland_right", "adrenal_gland_left"),
    *_LUNGS,
    *("esophagus", "trachea", "thyroid_gland", "small_bowel", "duodenum", "colon", "urinary_bladder", "prostate"),
    *("kidney_cyst_left", "kidney_cyst_right", "sacrum"),
    *_vertebrae(("S", 1, 1), ("L", 5, 1), ("T", 12, 1), ("C", 7, 1)),
    *("heart", "aorta", "pulmonary_vein", "brachiocephalic_trunk", "subclavian_artery_right"),
    *("subclavian_artery_left", "common_carotid_artery_right", "common_carotid_artery_left"),
    *("brachiocephalic_vein_left", "brachiocephalic_vein_right", "atrial_appendage_left", "superior_vena_cava"),
    *("inferior_vena_cava", "portal_vein_and_splenic_vein"),
    *_pairs("iliac_artery", "iliac_vena"),
    *_LIMBS,
    "spinal_cord",
    *_MUSCLES,
    *("brain", "skull"),
    *_RIBS,
    *("sternum", "costal_cartilages"),
)
