"""Detection: its rules one by one, over a labelled month, and over a log with faults."""
