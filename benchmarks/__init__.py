"""Measurements that take longer than a test; each file is one command."""
