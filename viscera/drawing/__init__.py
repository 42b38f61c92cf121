"""The kit that pages draw with."""
