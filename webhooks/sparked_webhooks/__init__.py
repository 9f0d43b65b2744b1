"""Clerk and training webhook ingestion: arrives with its own issue."""
