"""What a scan is: anatomy, geometry, scans, configuration, errors. Knows nothing of files, torch or pictures."""
