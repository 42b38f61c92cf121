"""The table of layouts: every public data set and every convention for folders that `viscera prepare` knows.

A new data set is one more `Layout` in `_DATA_SETS`: how its files are called (`case_files.Place` has the patterns),
and what its label numbers mean. Names are TotalSegmentator's where it has the structure, so that data sets mix; list
all structures, not only ours: a number that the table does not know is an error of the file. What the data sets are,
and where all this was looked up, stands in docs/reference/layouts.md.
"""

from viscera.io.layouts.case_files import Layout, Place, Refusal, in_order


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
    "spleen kidney_right kidney_left gallbladder liver stomach aorta inferior_vena_cava portal_vein_and_splenic_vein",
    "pancreas adrenal_gland_right adrenal_gland_left",
    *_LUNGS,
    *_vertebrae(("L", 5, 1), ("T", 12, 1), ("C", 7, 1)),
    "esophagus trachea heart_myocardium heart_atrium_left heart_ventricle_left heart_atrium_right",
    "heart_ventricle_right pulmonary_artery brain",
    *_pairs("iliac_artery", "iliac_vena"),
    "small_bowel duodenum colon",
    *_RIBS,
    *_LIMBS,
    "sacrum face",
    *_MUSCLES,
    "urinary_bladder",
)

TOTALSEGMENTATOR_V2 = in_order(
    "spleen kidney_right kidney_left gallbladder liver stomach pancreas adrenal_gland_right adrenal_gland_left",
    *_LUNGS,
    "esophagus trachea thyroid_gland small_bowel duodenum colon urinary_bladder prostate kidney_cyst_left",
    "kidney_cyst_right sacrum",
    *_vertebrae(("S", 1, 1), ("L", 5, 1), ("T", 12, 1), ("C", 7, 1)),
    "heart aorta pulmonary_vein brachiocephalic_trunk subclavian_artery_right subclavian_artery_left",
    "common_carotid_artery_right common_carotid_artery_left brachiocephalic_vein_left brachiocephalic_vein_right",
    "atrial_appendage_left superior_vena_cava inferior_vena_cava portal_vein_and_splenic_vein",
    *_pairs("iliac_artery", "iliac_vena"),
    *_LIMBS,
    "spinal_cord",
    *_MUSCLES,
    "brain skull",
    *_RIBS,
    "sternum costal_cartilages",
)


_BTCV_PLACES = (Place("img/img*", "label/label*"), Place("imagesTr/img*", "labelsTr/label*"))
_ATLAS_PLACES = (Place("BDMAP_*/ct", "BDMAP_*/combined_labels", masks="BDMAP_*/segmentations"),)
_ATLAS_1_0 = "aorta gall_bladder kidney_left kidney_right liver pancreas postcava spleen stomach"

_DATA_SETS = (
    Layout(
        name="btcv",
        places=_BTCV_PLACES,
        numbers=in_order(
            "spleen kidney_right kidney_left gallbladder esophagus liver stomach aorta inferior_vena_cava",
            "portal_vein_and_splenic_vein pancreas adrenal_gland_right adrenal_gland_left",
        ),
        shown=range(9, 14),
    ),
    Layout(
        name="synapse8",  # BTCV's scans, numbered as by TransUNet
        places=_BTCV_PLACES,
        numbers=in_order("aorta gallbladder kidney_left kidney_right liver pancreas spleen stomach"),
        shown=range(8, 9),
    ),
    Layout(
        name="synapse8-spleen-first",  # the same in BTCV's order
        places=_BTCV_PLACES,
        numbers=in_order("spleen kidney_right kidney_left gallbladder liver stomach aorta pancreas"),
        shown=range(8, 9),
    ),
    Layout(
        name="amos22",
        places=(
            Place("imagesTr/amos_*", "labelsTr/amos_*"),
            Place("imagesVa/amos_*", "labelsVa/amos_*", split="validation"),
        ),
        numbers=in_order(
            "spleen kidney_right kidney_left gallbladder esophagus liver stomach aorta inferior_vena_cava pancreas",
            "adrenal_gland_right adrenal_gland_left duodenum urinary_bladder prostate_or_uterus",
        ),
        ids=range(501),  # CT; larger numbers are MR
    ),
    Layout(
        name="word",
        places=(
            Place("imagesTr/word_*", "labelsTr/word_*", split="train"),
            Place("imagesVal/word_*", "labelsVal/word_*", split="validation"),
            Place("imagesTs/word_*", "labelsTs/word_*", split="test"),
        ),
        numbers=in_order(
            "liver spleen kidney_left kidney_right stomach gallbladder esophagus pancreas duodenum colon small_bowel",
            "adrenal_glands rectum urinary_bladder head_of_femur_left head_of_femur_right",
        ),
    ),
    Layout(
        name="flare22",  # the labelled cases
        places=(Place("images/FLARE22_Tr_*_0000", "labels/FLARE22_Tr_*"),),
        numbers=in_order(
            "liver kidney_right spleen pancreas aorta inferior_vena_cava adrenal_gland_right adrenal_gland_left",
            "gallbladder esophagus stomach duodenum kidney_left",
        ),
    ),
    Layout(name="abdomenatlas1.0", places=_ATLAS_PLACES, numbers=in_order(_ATLAS_1_0), shown=range(9, 10)),
    Layout(
        name="abdomenatlas1.1",
        places=_ATLAS_PLACES,
        numbers=in_order(
            _ATLAS_1_0,
            "adrenal_gland_left adrenal_gland_right bladder celiac_trunk colon duodenum esophagus femur_left",
            "femur_right hepatic_vessel intestine lung_left lung_right portal_vein_and_splenic_vein prostate rectum",
        ),
        shown=range(10, 26),
    ),
    Layout(name="totalsegmentator-v1-map", numbers=TOTALSEGMENTATOR_V1),  # one label map a case (`--ml`)
    Layout(name="totalsegmentator-v2-map", numbers=TOTALSEGMENTATOR_V2),
)

_CONVENTIONS = (
    Layout(
        name="nnunet",  # raw, versions 1 and 2
        places=(Place("imagesTr/*_0000", "labelsTr/*"), Place("imagesTs/*_0000", "labelsTs/*", split="test")),
        names_in=("dataset.json",),
        scans_optional=True,
        lists_files=True,
    ),
    # the Medical Segmentation Decathlon
    Layout(name="msd", places=(Place("imagesTr/*", "labelsTr/*"),), names_in=("dataset.json",)),
    # v1 and v2, one mask file an organ
    Layout(name="totalsegmentator", places=(Place("*/ct", masks="*/segmentations"),)),
    # our own
    Layout(name="pairs", places=(Place("images/*[_0000]", "labels/*"),), names_in=("labels.json", "dataset.json")),
)

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (*_CONVENTIONS, *_DATA_SETS)}

REFUSALS = (
    Refusal(
        title="Medical Segmentation Decathlon, Task08 HepaticVessel",
        marks=("imagesTr/hepaticvessel_*", "labelsTr/hepaticvessel_*"),
        reason="its label 1 mixes portal and hepatic veins inside the liver, so it is not the portal vein, and "
        "no organ of ours is labelled. Leave it out.",
    ),
    Refusal(
        title="Synapse as TransUNet prepares it (train_npz, test_vol_h5)",
        marks=("train_npz/case*.npz", "test_vol_h5/case*.npy.h5"),
        reason="its scans are clipped to -125 … 275 HU, scaled to 0 … 1 and without voxel sizes, so they are not CT "
        "any more. Take BTCV's img/ and label/ instead; they are the same scans.",
    ),
    Refusal(
        title="the averaged-… folders of the BTCV download",
        marks=("averaged-training-images/DET*", "imagesTr/DET*_avg*"),
        reason="these are cardiac MR of the same challenge, not abdominal CT. Take RawData/Training of its Abdomen "
        "folder instead.",
    ),
)
