"""One file a command: artifacts in, one artifact out. Stages do not know each other."""
