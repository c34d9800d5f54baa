"""Annotation formats of other tools. One module for each format, with its writer and its reader."""
