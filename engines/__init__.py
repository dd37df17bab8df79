"""Engines: what a bundle is, and how a graph of it is opened and run. numpy and the backend, nothing heavier."""
