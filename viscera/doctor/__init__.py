"""Why an arm will fail, or did."""
