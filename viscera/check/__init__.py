"""Looking at labelled data before anyone trains on it."""
