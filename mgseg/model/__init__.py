"""The network alone: tensors in, tensors out. No files, no clips, no printing."""
