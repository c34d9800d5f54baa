"""Annotation formats of other tools. One file a format: it writes masks and reads them back."""
