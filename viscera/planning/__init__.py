"""What to train with: settings for the data of a store, a machine and a budget, each with its reason."""
