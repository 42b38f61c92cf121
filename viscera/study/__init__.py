"""All arms of a study, resumable."""
