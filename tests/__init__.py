"""Tests; folders mirror the modules they test."""
