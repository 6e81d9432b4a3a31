"""The bundle: the artefact on disk, the contract between export and serving.

Here, and nowhere else, a bundle is written and read. This folder must not know torch, onnxruntime or HTTP.
"""
