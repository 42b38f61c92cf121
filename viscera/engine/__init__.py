"""What moves: the feed of training windows, the trainer, the predictor."""
