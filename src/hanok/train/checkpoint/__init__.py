"""Checkpoints: safetensors and JSON in a folder that appears whole, vouched for by a manifest, at any number of ranks.

`pieces` are the parts of tensors that a process holds, `file` writes and reads them, `manifest` vouches for files,
`folder` lists, keeps and removes checkpoints, `ranks` lets processes agree, `save` and `load` put it together.
"""
