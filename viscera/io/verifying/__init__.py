"""Whether an artifact is as it was written: what lies at a path, how each file is judged, what mends it."""
