"""The phantom: a procedural abdomen in portal-venous CT, as much as one likes of it, with the truth known.

Seven labelled organs lie among things that look like them and have no label: kidneys, inferior vena cava, bowel,
spine, muscle. It is a schematic to learn the trade on and to test with, and no picture of anyone.
"""

from viscera.imaging.phantom.patient import phantom_case, phantom_name, spacing_for

__all__ = ["phantom_case", "phantom_name", "spacing_for"]
