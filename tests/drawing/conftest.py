from tests.ellipsoid_abdomen import label_map

__all__ = ["label_map"]
