"""The project: its settings, and how it is served."""

VERSION = "0.1.0"
