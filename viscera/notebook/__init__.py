"""How scans, label maps, stores, runs and studies show themselves in notebooks."""
