"""Accuracy behind defences: selection, prediction, scores, reports."""
