"""Arrays in, arrays out: intensity, resampling, windows, the phantom. Opens no files."""
