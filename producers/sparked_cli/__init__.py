"""The `credits` command: composes everything, imported by nothing."""
