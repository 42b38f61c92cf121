"""`viscera view`: scans, label maps, stores and studies in the browser, served to this machine alone."""
