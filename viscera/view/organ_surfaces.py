"""The organs of a label map as triangles, for the view in 3D."""

import json
import struct

import numpy as np

from viscera.core.anatomy import ClassTable
from viscera.core.scan import LabelMap
from viscera.drawing.renders import surfaces
from viscera.drawing.slices import thinned


def surfaces_bytes(label_map: LabelMap, classes: ClassTable) -> bytes:
    """A canonical label map's organs: a 32-bit length, that much JSON, then vertices and faces of each organ.

    The JSON lists label, number of vertices and number of faces. Vertices are float32 RAS+ mm, three numbers each;
    faces uint32, three vertices each; all little-endian.
    """
    thin = thinned(label_map)
    there = np.flatnonzero(thin.voxel_counts(len(classes))[1 : len(classes)]) + 1
    found = surfaces(thin, classes)
    about, parts = [], list[bytes]()
    to_mm = thin.geometry.affine
    for label, surface in zip(there.tolist(), found, strict=True):
        index = surface.vertices_mm / np.asarray(thin.geometry.spacing_mm)
        vertices = index @ to_mm[:3, :3].T + to_mm[:3, 3]
        faces = surface.faces[:, ::-1] if np.linalg.det(to_mm[:3, :3]) > 0 else surface.faces
        about.append({"label": label, "vertices": len(vertices), "faces": len(faces)})
        parts += [vertices.astype("<f4").tobytes(), faces.astype("<u4").tobytes()]
    head = json.dumps(about).encode()
    head += b" " * (-len(head) % 4)
    return b"".join([struct.pack("<I", len(head)), head, *parts])
