"""Clerk's users and sessions, as far as credits need them, and a local stand-in of Clerk for tests and demos."""
