"""The Hugging Face hub, and what there is made for ONNX already: found, downloaded, and turned into a bundle."""
